package ceilings

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

var (
	seedFlag   = flag.Uint64("ceilings.seed", 0, "the seed of TestEveryCeilingWithEveryKey; 0 draws one")
	roundsFlag = flag.Int("ceilings.rounds", 1, "how often TestEveryCeilingWithEveryKey goes through all keys")
)

// Each ceiling of a database, with a key of each kind that the database has, either refuses it, as
// the table of keys says, or reads all rows once and in order, as an independent SELECT of all rows
// shows after the writers have ended. A lossy ceiling does so only with a single writer that
// appends. With a key that does not ascend it reads some of the rows, and says so.
func TestEveryCeilingWithEveryKey(t *testing.T) {
	seed := *seedFlag
	for seed == 0 {
		seed = rand.Uint64()
	}
	for round := range *roundsFlag {
		for i, k := range everyKey() {
			t.Run(fmt.Sprint(k.database, " ", k.name, " ", round), func(t *testing.T) {
				t.Parallel()
				random := rand.New(rand.NewPCG(seed, uint64(round*1000+i)))
				reader, admin := open(t, k.database, random)
				for _, c := range everyCeiling(k.database) {
					p := property{keyCase: k, ceiling: c, random: random, admin: admin, reader: reader}
					t.Run(c.String(), p.run)
				}
				if t.Failed() {
					t.Logf("again: go test ./poller/integration/ceilings -run '^TestEveryCeilingWithEveryKey$/^%s$' -ceilings.seed %d -ceilings.rounds %d",
						regexp.QuoteMeta(strings.TrimPrefix(t.Name(), "TestEveryCeilingWithEveryKey/")), seed, *roundsFlag)
				}
			})
		}
	}
}

// property is a ceiling at work over a table.
type property struct {
	keyCase
	ceiling ceiling.Ceiling
	random  *rand.Rand
	admin   *sqlx.DB
	reader  *sqlx.DB

	mu   sync.Mutex
	last int // the greatest n that was given
}

func (p *property) run(t *testing.T) {
	p.admin.MustExec(`drop table if exists t`)
	if p.database == "postgres" {
		p.admin.MustExec(`drop sequence if exists s`)
	}
	for _, s := range p.create {
		p.admin.MustExec(s)
	}
	name, _, _ := strings.Cut(p.ceiling.String(), "=")
	if _, ok := p.ceiling.(ceiling.Stamp); ok { // there is a ceiling stamp, too
		name = "stamp="
	}
	if !slices.Contains(p.accepts, name) {
		p.refused(t)
		return
	}
	b, err := lab.Fetch(t, p.table(), "", 10)
	require.NoError(t, err)
	require.Equal(t, slices.Contains(lossy, name), b.Guarantee.Lossy)
	if p.random.IntN(2) == 0 && p.values == nil {
		require.NoError(t, p.insert(p.admin, 7)) // before the reader starts
	}
	done := make(chan struct{})
	random := rand.New(rand.NewPCG(p.random.Uint64(), 0))
	go func() {
		defer close(done)
		p.write(t, random, name == "grace" || name == "none")
	}()
	got, at := p.read(t, done)
	var want []string
	require.NoError(t, p.admin.Select(&want, fmt.Sprintf(`select n from t order by t.%s`, strings.Join(p.key, ", t."))))
	switch {
	case p.falls && len(got) < len(want): // some of the rows, in order, up to the greatest
		require.Regexp(t, "nobody checks that the key|by your word|for which it takes your word", p.report(t, at))
		require.True(t, isSubsequence(got, want), "%q of %q", got, want)
	default:
		require.Equal(t, want, got)
	}
}

func isSubsequence(part, all []string) bool {
	for _, n := range all {
		if len(part) > 0 && part[0] == n {
			part = part[1:]
		}
	}
	return len(part) == 0
}

func escape(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// open opens a database, for the reader with a driver and settings of its session that the seed
// chooses.
func open(t *testing.T, database string, random *rand.Rand) (reader, admin *sqlx.DB) {
	drivers := map[string][]dbtest.Driver{"postgres": {dbtest.PGX, dbtest.PQ}, "mariadb": {dbtest.MySQL, dbtest.MySQLText}, "sqlite": {dbtest.Modernc, dbtest.NCruces}}[database]
	settings := map[string][]string{
		"postgres": {"", "&options=" + escape("-c TimeZone=Asia/Tokyo -c IntervalStyle=iso_8601"), "&options=" + escape("-c TimeZone=America/New_York -c standard_conforming_strings=off -c bytea_output=escape")},
		"mariadb":  {"", "&time_zone=%27%2B09:00%27", "&sql_mode=%27ANSI%27", "&time_zone=%27-05:00%27&sql_mode=%27PAD_CHAR_TO_FULL_LENGTH%27"},
	}[database]
	driver := drivers[random.IntN(len(drivers))]
	d := lab.DatabaseFor(t, driver)
	admin = d.Open(t, driver)
	if settings == nil {
		return admin, admin
	}
	dsn := d.DSN(driver)
	if driver == dbtest.MySQLText {
		dsn += "?parseTime=false"
	}
	reader, err := sqlx.Open(driver.SQLName(), dsn+settings[random.IntN(len(settings))])
	require.NoError(t, err)
	t.Cleanup(func() { reader.Close() })
	return reader, admin
}

func (p *property) table() *sqlsource.Table {
	return &sqlsource.Table{DB: p.reader, Name: "t", Key: p.key, Ceiling: p.ceiling, Logger: slog.New(slog.DiscardHandler)}
}

// refused requires that the ceiling refuses the key. Without a ceiling, no lossy one is offered.
func (p *property) refused(t *testing.T) {
	for range max(1, len(p.values)) { // whether any number fits shows with the rows
		require.NoError(t, p.insert(p.admin, 1))
	}
	_, err := p.table().Fetch(t.Context(), "", 10)
	lab.RequirePermanent(t, err)
	var unsafe *ceiling.UnsafeError
	require.ErrorAs(t, err, &unsafe)
	automatic := p.table()
	automatic.Ceiling = nil
	_, err = automatic.Fetch(t.Context(), "", 10)
	if err == nil {
		return
	}
	lab.RequirePermanent(t, err)
	require.ErrorAs(t, err, &unsafe)
	require.NotContains(t, err.Error(), "lossy")
}

func (p *property) report(t *testing.T, at source.Cursor) string {
	c, err := p.table().Check(t.Context(), at)
	require.NoError(t, err)
	return lab.OneLine(c.String())
}

// write adds rows: a single writer with the values of the case, or several writers whose
// transactions overlap, if the database draws the key. A lossy ceiling promises something with a
// single writer only.
func (p *property) write(t *testing.T, random *rand.Rand, single bool) {
	if p.values != nil {
		for range p.values {
			if err := p.insert(p.admin, 1); err != nil {
				t.Error(err)
			}
		}
		return
	}
	writers := 3
	if single {
		writers = 1
	}
	var all sync.WaitGroup
	for range writers {
		random := rand.New(rand.NewPCG(random.Uint64(), 1))
		all.Go(func() {
			for range 8 {
				tx, err := p.admin.Beginx()
				if err != nil {
					t.Error(err)
					return
				}
				if err := p.insert(tx, 1+random.IntN(3)); err != nil { // SQLite may refuse the lock
					_ = tx.Rollback()
					continue
				}
				if random.IntN(4) == 0 && !single {
					err = tx.Rollback()
				} else {
					err = tx.Commit()
				}
				if err != nil && p.database != "sqlite" {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// insert adds n rows in one statement. Each row has a number n that tells it apart.
func (p *property) insert(db sqlx.Execer, n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	columns, rows := "n", []string{}
	for range n {
		p.last++
		row := fmt.Sprint(p.last)
		if p.values != nil {
			columns, row = "n, "+p.key[0], row+", "+p.values[p.last-1]
		}
		rows = append(rows, "("+row+")")
	}
	_, err := db.Exec("insert into t (" + columns + ") values " + strings.Join(rows, ", "))
	return err
}

// read polls until all rows that can be expected have been read, in batches of any size. Sometimes
// it starts again, as a program that is restarted.
func (p *property) read(t *testing.T, done <-chan struct{}) (got []string, at source.Cursor) {
	table, restarts, ended := p.table(), 3, false
	for late := time.Now().Add(lab.WaitLimit); ; {
		if restarts > 0 && p.random.IntN(20) == 0 {
			table, restarts = p.table(), restarts-1
		}
		select {
		case <-done:
			ended = true
		default:
		}
		b, err := table.Fetch(t.Context(), at, 1+p.random.IntN(5))
		require.NoError(t, err)
		for _, r := range b.Records {
			n, _ := r.Get("n")
			got = append(got, n)
		}
		at = b.To
		if ended && len(b.Records) == 0 && p.complete(t, got) {
			return got, at
		}
		if time.Now().After(late) {
			t.Fatalf("not all rows are read after %v: %q", lab.WaitLimit, got)
		}
	}
}

// complete reports whether the row with the greatest key was read.
func (p *property) complete(t *testing.T, got []string) bool {
	var greatest []string
	require.NoError(t, p.admin.Select(&greatest, fmt.Sprintf(`select n from t order by t.%s desc limit 1`, strings.Join(p.key, " desc, t."))))
	return len(greatest) == 0 || len(got) > 0 && got[len(got)-1] == greatest[0]
}
