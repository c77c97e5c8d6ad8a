package xminsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// Source delivers the inserts and updates of one table of Postgres 13 or later. DB, Name and Key
// must be set. No field may be changed after the first Fetch, and a Source must not be copied.
//
// A Source makes no connection before the first Fetch. Its methods are safe for concurrent use,
// but fetches run one after the other.
type Source struct {
	DB *sqlx.DB

	// Name is the table's name as in [sqlsource.Table].
	Name string

	// Key are the columns that tell the rows apart: together unique, never NULL, and first in an
	// index, in this order. An update that changes the key is an Upsert with the new key. The old key
	// is deleted with Deletes, and otherwise not.
	Key []string

	// Deletes, if not nil, lets the Source deliver deletes, too. Then Close releases its directory. Two Sources must not share
	// one. A change of it takes effect with an empty checkpoint.
	Deletes *Deletes

	// Columns are the columns to read, among them those of Key. nil reads all.
	Columns []string

	// MaxBytes and MaxRowBytes are those of [sqlsource.Table].
	MaxBytes, MaxRowBytes int

	// Logger gets a line when the columns change. nil means slog.Default().
	Logger *slog.Logger

	setup     sync.Once
	err       error
	print     string
	label     string // the table's name with its schema, for Change.Table
	table     *sqlsource.Table
	guarantee *source.Guarantee

	mu        sync.Mutex
	session   dialect.Session // nil: not known
	guard     *guard
	list      *list      // the versions of the pass; nil: not known
	candidate *candidate // for the X1 of the next pass
	last      *candidate // that of the pass
	fetched   *fetched   // nil: nothing waits
	progress  progress
	remover   *remover // nil: Deletes is not set, or the directory is not open
}

// rounds is how often one Fetch begins again because the table was rewritten during it.
const rounds = 4

// Fetch implements [source.Source]. A pass begins with an empty batch, whose cursor fixes what the
// pass delivers. An error that wraps [sqlsource.ErrHistory] says that the cursor does not continue.
func (s *Source) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[row.Change], error) {
	none := source.Batch[row.Change]{From: after, To: after}
	s.setup.Do(func() { s.err = s.init() })
	if s.err != nil {
		return none, s.err
	}
	p, err := s.decode(after)
	switch {
	case err != nil:
		return none, err
	case p.refused != "":
		return none, s.permanent("%w", &refusal{p.refused})
	case limit < 1:
		return none, s.permanent("the caller asked for a limit of %d rows", limit)
	case ctx.Err() != nil:
		return none, s.wrap(ctx.Err())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := none
	if s.Deletes == nil {
		p.known = known{}
	} else if p.known, err = s.openKeys(p, after); err != nil {
		return none, err
	}
	switch {
	case p.inPass():
		err = s.read(ctx, p, limit, &b)
	case p.known.missing > 0:
		err = s.remove(ctx, p, limit, &b)
	default:
		err = s.begin(ctx, p, &b)
	}
	var r *refusal
	if errors.As(err, &r) {
		b, p.refused = none, s.startOver(r.reason)
		b.More = true // the next Fetch, which is due at once, returns the error
		b.To, err = s.encode(p)
	}
	if err != nil {
		return none, err
	}
	to, err := s.decode(b.To)
	b.Guarantee, b.Position = s.guarantee, s.describe(to)
	if d := s.remover; d != nil {
		d.returned(after, b.To)
		d.asOf(to.known, &b)
		d.hold(&b)
	}
	return b, err
}

// Promise returns what the Source promises. It asks the database whether the table can be read, and reads no row.
func (s *Source) Promise(ctx context.Context) (*source.Guarantee, error) {
	s.setup.Do(func() { s.err = s.init() })
	if s.err != nil {
		return nil, s.err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.withDB(ctx, func(db queryer) error { return s.guard.probe(ctx, db) })
	return s.guarantee, err
}

// Adopt returns a cursor at the same position without a history. Use it to continue after an
// error that wraps [sqlsource.ErrHistory], if no transaction that had committed was lost, as after
// a planned switchover. Adopt does not ask the database.
func (s *Source) Adopt(c source.Cursor) (source.Cursor, error) {
	s.setup.Do(func() { s.err = s.init() })
	if s.err != nil {
		return "", s.err
	}
	p, err := s.decode(c)
	if err != nil || c == "" {
		return "", err
	}
	p.history, p.refused = history{}, ""
	return s.encode(p)
}

func (s *Source) init() error {
	s.print = fingerprint(append([]string{"xmin", s.Name}, s.Key...)...)
	if s.Columns != nil {
		for _, k := range s.Key {
			if !slices.Contains(s.Columns, k) {
				return s.permanent("Columns lacks %q, which is a column of the key", k)
			}
		}
	}
	parts, err := dialect.SplitName(s.Name)
	if err != nil {
		return s.permanent("Name %q: %w", s.Name, err)
	}
	s.guard = &guard{source: s, parts: parts, name: quoteName(parts)}
	s.table = &sqlsource.Table{DB: s.DB, Name: s.Name, Key: s.Key, Columns: s.Columns, MaxBytes: s.MaxBytes, MaxRowBytes: s.MaxRowBytes,
		Ceiling: ceilingOf{s.guard}, Dialect: &dialectOf{}, Logger: s.Logger}
	if _, err := s.table.At(); err != nil { // it checks the fields
		return s.wrap(err)
	}
	return nil
}

// changes makes changes of the rows of a batch.
func (s *Source) changes(rows []row.Row) ([]row.Change, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	var at []int
	for _, k := range s.Key {
		i := rows[0].Columns().Index(k)
		if i < 0 {
			return nil, fmt.Errorf("xminsource: %s: the row has no column %q", s.Name, k)
		}
		at = append(at, i)
	}
	keys := row.Pick(rows, at...)
	changes := make([]row.Change, len(rows))
	for i, r := range rows {
		changes[i] = row.Change{Op: row.Upsert, Table: s.label, Key: keys[i], Row: r}
	}
	return changes, nil
}

// idleDistance is how many transaction ids a cursor may be back while nothing is found. Moving
// it costs a write of the checkpoint.
const idleDistance = 1 << 20

// begin begins the next pass, if there is something to deliver.
func (s *Source) begin(ctx context.Context, p position, b *source.Batch[row.Change]) error {
	if s.remover != nil {
		if moved, err := s.sweepKeys(ctx, p, b); moved || err != nil {
			return err
		}
	}
	return s.withDB(ctx, func(db queryer) error {
		next, held, err := s.below(ctx, db, p)
		if err != nil || held != nil {
			b.Held = held
			return err
		}
		to := position{from: p.from, below: next.xmin, history: historyOf(next.history, next.history.Mark, p.history), known: s.knownBefore(p, b.From, next)}
		s.list, s.fetched, s.last = nil, nil, next
		switch {
		case next.xmin <= p.from:
			return s.idle(ctx, db, next, b)
		case p.from != 0:
			if s.list, err = s.scan(ctx, db, to, nil); err != nil {
				return err
			}
			s.guard.position, s.guard.used = to, s.list.stamp
			if len(s.list.entries) == 0 {
				if to = to.end(); to.from-p.from >= idleDistance || !to.history.same(p.history) {
					if err := s.skip(ctx, db, to, b); err != nil {
						return err
					}
				}
				return s.idle(ctx, db, next, b)
			}
			b.Pending = s.list.pending()
		}
		b.More = true
		b.To, err = s.encode(to)
		if s.list != nil {
			s.list.reached(b.To, 0)
		}
		return err
	})
}

// knownBefore returns what a pass knows when it begins.
func (s *Source) knownBefore(p position, at source.Cursor, c *candidate) known {
	switch {
	case s.remover == nil:
		return known{}
	case !p.known.remembered():
		return s.remover.start(c.at)
	}
	return s.remover.now(p.known, at)
}

// skip moves past an interval of ids in which nothing was found, if that is on disk.
func (s *Source) skip(ctx context.Context, db queryer, to position, b *source.Batch[row.Change]) error {
	st, same, err := s.guard.unchanged(ctx, db)
	if err == nil && same && (&candidate{st, time.Now()}).durable(st.history) {
		b.To, err = s.encode(to)
	}
	return err
}

// idle reports how current the source is once all versions below next were delivered.
func (s *Source) idle(ctx context.Context, db queryer, next *candidate, b *source.Batch[row.Change]) (err error) {
	var since time.Time
	b.AsOf, since = s.progress.delivered(next)
	if !since.IsZero() {
		b.Held = &source.Held{Since: since}
		b.Held.By, err = oldest(ctx, db)
	}
	return s.wrap(err)
}

// fetched holds the rows read after a cursor. It waits until the log is on disk: a version that was left out because
// another one had overwritten it comes back if a crash takes back the other one.
type fetched struct {
	from  source.Cursor
	rows  source.Batch[row.Row]
	keys  []sqlsource.Key   // of the rows
	bad   *source.BadRecord // instead of rows
	start int               // where its piece of the list begins
	limit int               // how long the piece is
	until candidate         // after the rows were read
}

// read reads on in a pass.
func (s *Source) read(ctx context.Context, p position, limit int, b *source.Batch[row.Change]) error {
	for round := 1; ; round++ {
		f, st, err := s.fetch(ctx, p, limit, b.From)
		switch {
		case err != nil:
			return err
		case f == nil && round == rounds:
			return s.wrap(errRewritten)
		case f == nil:
			continue
		case !f.until.durable(st.history):
			b.Held = &source.Held{Since: f.until.read, Retry: flushRetry, By: []string{unflushed}}
			return nil
		}
		s.fetched = nil
		if f.bad != nil {
			return s.passOver(p, f)
		}
		if done, err := s.deliver(ctx, p, f, b); done || err != nil {
			return err
		}
		round = 0 // all versions of a piece of the list are gone
	}
}

// fetch returns the rows after a cursor, and the server's state after the read. It returns nil if the table was
// rewritten, or the server restarted, during the read.
func (s *Source) fetch(ctx context.Context, p position, limit int, from source.Cursor) (f *fetched, st state, err error) {
	if f = s.fetched; f == nil || f.from != from || f.limit != limit {
		s.guard.position, s.guard.from, s.guard.limit = p, from, limit
		f = &fetched{from: from, limit: limit}
		f.rows, f.keys, err = s.table.FetchKeyed(ctx, p.inner, limit)
		if errors.As(err, &f.bad) {
			err = nil
		}
		if f.start = s.guard.start; err != nil {
			return nil, st, s.wrap(err)
		}
	}
	same := false
	err = s.withDB(ctx, func(db queryer) error {
		st, same, err = s.guard.unchanged(ctx, db)
		return err
	})
	switch {
	case err != nil:
		return nil, st, err
	case !same:
		s.list, s.fetched = nil, nil
		return nil, st, nil
	case s.fetched != f:
		f.until = candidate{st, time.Now()}
		s.fetched = f
	}
	return f, st, nil
}

// deliver makes a batch of the rows read. It is not done if no row was read and the pass goes on.
func (s *Source) deliver(ctx context.Context, p position, f *fetched, b *source.Batch[row.Change]) (done bool, err error) {
	rows := f.rows
	at, ended := s.list.after(f)
	if b.Records, err = s.changes(rows.Records); err != nil {
		return true, err
	}
	b.Bytes = rows.Bytes
	to := p
	to.history = historyOf(s.guard.history, p.history.mark, p.history) // this server has the delivered rows
	if len(rows.Records) > 0 {
		if to.inner, err = s.table.Adopt(rows.To); err != nil {
			return true, s.wrap(err)
		}
		if to.known, err = s.remember(to.known, f); err != nil {
			return true, err
		}
	}
	if ended {
		to = to.end()
	}
	if b.To, err = s.encode(to); err != nil {
		return true, err
	}
	if s.list != nil {
		s.list.used = s.list.used || len(rows.Records) > 0
		s.list.reached(b.To, at)
		b.Pending = s.list.pending()
	}
	switch {
	case s.list.stuck(at):
		s.list = nil
		return true, s.wrap(errors.New("none of the rows that the transaction ids show could be read by their key: they were deleted meanwhile, or the database compares the key with its text in another way"))
	case !ended:
		b.More = true
		return len(rows.Records) > 0, nil
	case s.last != nil && s.last.xmin == p.below:
		s.list = nil
		return true, s.withDB(ctx, func(db queryer) error { return s.idle(ctx, db, s.last, b) })
	}
	return true, nil
}

// passOver sets the cursor after a row that cannot be read.
func (s *Source) passOver(p position, f *fetched) (err error) {
	if p.inner, err = s.table.Adopt(f.bad.To); err != nil {
		return s.wrap(err)
	}
	to, err := s.encode(p)
	if err != nil {
		return err
	}
	if s.list != nil {
		s.list.used = true
		s.list.reached(to, f.start)
	}
	return &source.BadRecord{Key: f.bad.Key, To: to, Err: f.bad.Err}
}
