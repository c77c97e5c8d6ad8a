package diffsource

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/internal/statedir"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// Source finds the changes of a table or a view by comparing passes over it. Table and Dir must be set.
// No field may be changed after the first Fetch, and a Source must not be copied.
//
// Its methods are safe for concurrent use, but fetches run one after the other. Two Sources must
// not share a Dir.
type Source struct {
	// Table is the table to read. Its Ceiling, Start and Conn must not be set. Nothing is fetched from it. Its
	// Name is the Change.Table of all changes: write it with its schema where the database has schemas.
	//
	// With Columns that are those of Key, only inserts and deletes are found.
	Table *sqlsource.Table

	// Dir is the directory of the state: 24 bytes for each row if the key is an integer, and 17 and
	// the length of the key otherwise, up to three times. It belongs to the checkpoint: back them up and
	// move them together. It is created if it does not exist.
	Dir string

	// Every is the shortest time from the start of a pass to the start of the next. A pass reads the
	// whole table. 0 means that the next pass begins with the next Fetch.
	Every time.Duration

	// Snapshot, if not 0, reads a pass in one transaction of at most this duration: its rows are as of one moment.
	// A pass that takes longer goes on in another transaction, and so does one that is interrupted. The duration is
	// looked at in a Fetch only: while nobody fetches, the transaction stays open, until Close. A transaction holds a connection of the pool, and the database keeps old versions of rows until it ends.
	// Without it each batch is read alone: see the package comment.
	Snapshot time.Duration

	mu      sync.Mutex
	tuning  tuning
	table   table
	keys    table // table, with the columns of the key alone
	store   *store
	pass    *pass  // the pass in progress, or nil
	replica bool   // a row of the pass was read on a standby
	typed   bool   // see whole
	quiet   quiet  // the last complete pass without a difference
	saved   uint64 // the pass of the cursor before: a checkpoint may stand there
}

// tuning are the sizes that a test changes.
type tuning struct {
	pageRows int           // how many rows are read at once, if they are not large
	window   int           // how many rows and entries are aligned by their keys alone
	lookup   int           // how many keys are looked up at once
	scanFor  time.Duration // how long a Fetch goes on without a full batch
	random   func() uint64
}

var usual = tuning{pageRows: 20_000, window: 4096, lookup: 100, scanFor: 2 * time.Second, random: rand.Uint64}

// quiet is a pass that has found no difference. It does not move the cursor.
type quiet struct {
	at    source.Cursor
	began time.Time
	asOf  time.Time
}

// table has the methods of [sqlsource.Table] that a Source needs.
type table interface {
	FetchKeyed(ctx context.Context, after source.Cursor, limit int) (source.Batch[row.Row], []sqlsource.Key, error)
	FetchRows(ctx context.Context, keys []sqlsource.Key) ([]row.Row, []sqlsource.Key, error)
	Order(ctx context.Context, row, other sqlsource.Key) (order int, found bool, err error)
	AtKey(k sqlsource.Key) (source.Cursor, error)
	KeyOf(c source.Cursor) (sqlsource.Key, error)
}

// guarantee is the promise of all Sources.
var guarantee = &source.Guarantee{
	Name: "diff",
	Text: "every row that two passes see differently is delivered, as it was when the later one read it; versions between two passes are not seen",
}

// Fetch implements [source.Source]. A pass that finds no difference does not move the cursor. The
// changes of the first pass are upserts. Errors that retrying cannot fix are marked with
// [retry.Permanent]. A row that cannot be read is a [*source.BadRecord], once for as long as it cannot.
func (s *Source) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[row.Change], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := source.Batch[row.Change]{From: after, To: after, Guarantee: guarantee}
	if limit < 1 {
		return b, retry.Permanent(fmt.Errorf("diffsource: the caller asked for a limit of %d changes", limit))
	}
	if err := ctx.Err(); err != nil {
		return b, err
	}
	if err := s.init(); err != nil {
		return b, err
	}
	at, err := decode(after, identity(s.Table))
	if err != nil {
		return b, err
	}
	if at.pass == 0 { // the cursor is saved before anything is delivered, so that a restart finds what was
		s.drop()
		first := cursor{lineage: s.tuning.random(), pass: 1, began: time.Now().UnixMilli()}
		b.To, b.More, b.Position = first.encode(identity(s.Table)), true, first.position()
		return b, nil
	}
	if s.pass == nil || s.pass.from != after {
		s.drop()
		began, asOf := s.last(at, after)
		if since := time.Since(began); at.complete && since >= 0 && since < s.Every { // a clock that was set back makes it negative
			b.AsOf, b.Position = asOf, at.position()
			return b, nil
		}
		if s.pass, err = s.begin(ctx, at, after, asOf); err != nil {
			s.pass = nil
			return b, err
		}
	}
	s.saved = at.pass
	err = s.pass.run(ctx, limit, &b)
	if err != nil && !errors.As(err, new(*source.BadRecord)) {
		s.drop()
	}
	return b, err
}

// last returns when the last complete pass began, and the AsOf that follows from it.
func (s *Source) last(at cursor, after source.Cursor) (began, asOf time.Time) {
	if s.quiet.at == after && !s.quiet.began.IsZero() {
		return s.quiet.began, s.quiet.asOf
	}
	return time.UnixMilli(at.began), at.asOf()
}

// Close releases the directory. The next Fetch takes it again.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
	if s.store == nil {
		return nil
	}
	err := s.store.dir.Close()
	s.store = nil
	return err
}

// Position describes a cursor for people: the pass, when it began, and the last key that it has read.
func (s *Source) Position(c source.Cursor) string {
	at, err := decode(c, identity(s.Table))
	if err != nil {
		return ""
	}
	return at.position()
}

// drop forgets the pass in progress. The next Fetch begins at its cursor.
func (s *Source) drop() {
	if s.pass != nil {
		s.pass.close()
		s.pass = nil
	}
}

func (s *Source) init() error {
	t := s.Table
	switch {
	case t == nil:
		return retry.Permanent(errors.New("diffsource: Table is nil"))
	case s.Dir == "":
		return retry.Permanent(errors.New("diffsource: Dir is empty: it must be a directory for the state of the last pass"))
	case t.Ceiling != nil || t.Start != "" || t.Conn != nil:
		return retry.Permanent(errors.New("diffsource: Ceiling, Start or Conn of Table is set: a pass reads all rows"))
	}
	if s.table == nil {
		s.table, s.tuning = s.all(), usual
		s.keys = keysOf(s.Table)
	}
	if s.store == nil {
		dir, err := statedir.Open(s.Dir)
		if err != nil {
			return fmt.Errorf("diffsource: open the directory of the state: %w", err)
		}
		s.store = &store{dir: dir, path: s.Dir, table: t.Name, random: s.tuning.random}
	}
	return nil
}

// begin goes on after a cursor. If the pass was complete, the next one begins.
func (s *Source) begin(ctx context.Context, at cursor, from source.Cursor, asOf time.Time) (*pass, error) {
	p := &pass{source: s, from: from, at: at, now: at, whole: at.complete, pager: pager{table: s.table, pageRows: s.tuning.pageRows}, keyTable: s.keys}
	var err error
	s.replica = !p.whole && at.replica
	if p.whole {
		p.now = cursor{lineage: at.lineage, pass: at.pass + 1, began: time.Now().UnixMilli(), base: at.state}
		if !asOf.IsZero() {
			p.now.last = asOf.UnixMilli()
		}
		if keep := min(at.pass, s.saved); keep > 1 {
			if err := s.store.clean(at.lineage, keep-1); err != nil {
				return nil, fmt.Errorf("diffsource: %s: remove the state of old passes: %w", s.Dir, err)
			}
		}
	} else if err := s.store.verify(at); err != nil {
		return nil, err
	}
	c := p.now
	var kinds []int
	if p.unsure, kinds, err = s.store.abandoned(ctx, c.lineage, c.pass, c.state); err != nil {
		return nil, err
	}
	if p.base, err = s.store.open(c.lineage, c.pass-1, c.base, c.taken); err != nil {
		return nil, err
	}
	p.out = s.store.create(c)
	if p.kinds = p.base.kinds; p.kinds == nil {
		p.kinds = kinds
	}
	p.out.header.Kinds = p.kinds
	if c.key != "" {
		p.next, err = s.table.AtKey(c.key)
	}
	return p, err
}
