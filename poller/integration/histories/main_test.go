// Package histories restores, reloads, replaces and moves databases under a pipeline that is restarted
// all the time. No row may be lost in silence: the pipeline either delivers all rows, or is refused and
// stays refused. Ordinary life, such as updates, pruning and rebuilds, must never be refused.
package histories

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

func TestMain(m *testing.M) { lab.Main(m) }

// pipeline copies the table orders into memory, exactly once.
type pipeline struct {
	t       *testing.T
	db      *sqlx.DB
	ceiling ceiling.Ceiling
	where   string
	table   *sqlsource.Table // of the run before; nil: the program is restarted
	log     bytes.Buffer
	copy    *lab.Copy // gets the rows, too

	cursor source.Cursor
	column string          // tells rows apart
	tokens map[string]bool // its values that were delivered
	rows   int
	met    error // of the first poll after an act
}

func newPipeline(t *testing.T, db *sqlx.DB) *pipeline {
	return &pipeline{t: t, db: db, copy: lab.NewCopy(t), column: "token", tokens: map[string]bool{}}
}

func (p *pipeline) Load(ctx context.Context) (source.Cursor, error) {
	stored, err := p.copy.Load(ctx)
	require.Equal(p.t, p.cursor, stored)
	return stored, err
}

func (p *pipeline) Save(ctx context.Context, from, to source.Cursor) error {
	require.Contains(p.t, []source.Cursor{from, to}, p.cursor)
	p.cursor = to
	return p.copy.Save(ctx, from, to)
}

func (p *pipeline) Write(ctx context.Context, b source.Batch[row.Row]) error {
	require.Equal(p.t, b.From, p.cursor)
	require.NoError(p.t, p.copy.Write(ctx, b))
	for _, r := range b.Records {
		token, ok := r.Get(p.column)
		require.True(p.t, ok)
		p.tokens[token] = true
		p.rows++
	}
	p.cursor = b.To
	return nil
}

// source returns the table as the program reads it, with the program's state in memory.
func (p *pipeline) source() *sqlsource.Table {
	if p.table == nil {
		p.table = &sqlsource.Table{DB: p.db, Name: "orders", Key: []string{"id"}, Where: p.where, Ceiling: p.ceiling, Logger: slog.New(slog.NewTextHandler(&p.log, nil))}
	}
	return p.table
}

// poll runs the pipeline until it has delivered all rows.
func (p *pipeline) poll() error {
	p.t.Helper()
	run := &poller.Poller[row.Row]{Name: "orders", Source: p.source(), Sink: p, Checkpointer: p, BatchSize: 100, Interval: time.Millisecond,
		DrainWait: lab.WaitLimit, Logger: slog.New(slog.DiscardHandler)}
	return run.Drain(p.t.Context())
}

// restart forgets what the program has in memory.
func (p *pipeline) restart() { p.table = nil }

// lost returns the tokens in the table that were not delivered.
func (p *pipeline) lost() (lost []string) {
	p.t.Helper()
	var all []string
	require.NoError(p.t, p.db.Select(&all, "select "+p.column+" from orders"))
	for _, token := range all {
		if !p.tokens[token] {
			lost = append(lost, token)
		}
	}
	return lost
}

// requireComplete requires that each row in the table was delivered, also by package verify.
func (p *pipeline) requireComplete() {
	p.t.Helper()
	require.Empty(p.t, p.lost())
	report := p.copy.Verify(p.t, p.table)
	require.Zero(p.t, report.Missing(), "%s", report)
}

// outcome is what must become of a pipeline.
type outcome string

const (
	refused   outcome = "refused"   // and it stays so, however often it is restarted
	continues outcome = "continues" // all rows are delivered
	told      outcome = "told"      // it continues with a warning that rows may be missed: nothing else can tell
	noticed   outcome = "noticed"   // either of the above
	later     outcome = "later"     // it is noticed when keys pass the cursor: a lossy ceiling looks at no sequence
)

// check requires the outcome, though the table grows and the program is restarted.
func (p *pipeline) check(want outcome, insert func(int)) {
	p.t.Helper()
	err := p.met
	if want == noticed {
		want = told
		if err != nil {
			want = refused
		}
	}
	switch want {
	case refused:
		require.ErrorIs(p.t, err, sqlsource.ErrHistory, "%s\n%s", p.log.String(), p.cursor)
		rows, first := p.rows, err.Error()
		for range 5 {
			p.restart()
			insert(200)
			err = p.poll()
			require.ErrorIs(p.t, err, sqlsource.ErrHistory)
			require.Equal(p.t, first, err.Error())
			require.Equal(p.t, rows, p.rows)
		}
		p.adopt()
	case continues:
		require.NoError(p.t, err)
		for range 2 {
			p.restart()
			insert(50)
			require.NoError(p.t, p.poll())
		}
		p.requireComplete()
		require.NotContains(p.t, p.log.String(), "delivered rows changed")
	case later:
		require.NoError(p.t, err)
		insert(1000)
		p.met = p.poll()
		p.check(noticed, insert)
	case told:
		require.NoError(p.t, err)
		require.Contains(p.t, p.log.String(), "delivered rows changed")
		require.False(p.t, p.copy.Verify(p.t, p.table).Equal(), "package verify sees what changed")
	}
}

// adopt lifts a refusal. While keys below the cursor are drawn, there is another one.
func (p *pipeline) adopt() {
	p.t.Helper()
	adopted, err := p.table.Adopt(p.cursor)
	require.NoError(p.t, err)
	p.cursor = adopted
	require.NoError(p.t, p.copy.Rewind(adopted))
	if err := p.poll(); err != nil {
		require.ErrorIs(p.t, err, sqlsource.ErrHistory)
		require.ErrorContains(p.t, err, "below the cursor")
	}
}

// ceilings are the one that is chosen (nil), and the lossy ones. The only writer is quicker than those.
var ceilings = []ceiling.Ceiling{nil, ceiling.None{}, ceiling.Grace{For: time.Millisecond}}

// pipelines copy one table, with each of the ceilings.
type pipelines []*pipeline

func newPipelines(t *testing.T, db *sqlx.DB) (all pipelines) {
	for _, c := range ceilings {
		p := newPipeline(t, db)
		p.ceiling = c
		all = append(all, p)
	}
	return all
}

func (all pipelines) poll() {
	for _, p := range all {
		p.t.Helper()
		require.NoError(p.t, p.poll())
	}
}

// restart restarts the programs, with another pool.
func (all pipelines) restart(db *sqlx.DB) {
	for _, p := range all {
		p.db = db
		p.restart()
	}
}

// check requires an outcome, with the lossy ceilings another one unless it is empty. All of the pipelines
// meet what has happened before any of them lets the table grow.
func (all pipelines) check(want, lossy outcome, insert func(int)) {
	for _, p := range all {
		p.t.Helper()
		p.met = p.poll()
	}
	for _, p := range all {
		if p.ceiling != nil {
			want = cmp.Or(lossy, want)
		}
		p.check(want, insert)
	}
}

// restarts says whether the programs are restarted before the poll that meets what has happened. The
// short form does one of both in turn.
func restarts(n int) []bool {
	if testing.Short() {
		return []bool{n%2 == 0}
	}
	return []bool{false, true}
}

func run(t *testing.T, db *sqlx.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		_, err := db.Exec(s)
		require.NoError(t, err, s)
	}
}
