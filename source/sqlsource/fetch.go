package sqlsource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// What the zero values of Table's and Query's fields mean.
const (
	DefaultMaxBytes    = 8 << 20
	DefaultMaxRowBytes = 32 << 20
)

// firstLimit is the most rows to ask for while their size is not known.
const firstLimit = 1024

// state is what a Table or a Query learns: how rows are read, never which ones.
type state struct {
	setup sync.Once
	query *query
	err   error

	mu        sync.Mutex
	plan      *plan
	stale     bool      // the plan is out of date, and kept to tell what changed
	nonce     int       // of the next plan, 0 until the columns are found changed
	nulls     time.Time // when NULL was looked for in the key, by this plan
	turn      int       // counts polls without rows, which look in one column
	explained bool      // the database's plan was looked at
	rowSize   int       // average of the last batch
	unproven  bool      // rows were read by the plan, and then the columns not yet compared
	backlog   bool      // more rows followed those that were read last
	large     large
	collect   bool // a large row was read

	guard     ceiling.Guard
	base      []string          // the table, or that which a view takes its key from
	origin    dialect.Origin    // where the key of a view or a Select comes from; without a Table it is not asked
	asked     time.Time         // when that was found
	unasked   bool              // the guard was used, and then that not yet asked again
	guarantee *source.Guarantee // the guard's
	reported  string            // the guarantee that was logged last
	window    *window           // nil: not known

	to         source.Cursor                 // of the batch, "" if it has no rows
	unfinished []func(ceiling.Queryer) error // what is left to do with another connection, before that is known

	reread    rereader
	delivered map[string]digest // the rows of the anchors, by [keyText]; nil: they were not read together with the batch
	marks     dialect.Marks
	marked    time.Time // when marks were read
	warned    time.Time // when it was logged that delivered rows changed
	suspects  int       // how many of them
	edited    bool      // that the query changed was logged

	path     string         // of the database's file, in the data source name
	file     string         // the one at the database's path
	files    map[any]string // of the driver's connections: which file they have opened
	distrust int            // how many other connections may have opened the file before
}

// records takes the rows of one batch.
type records[T any] interface {
	bind(dest []any) // sets what the columns are scanned into; the slice is kept
	add() int        // ends a row and returns its size in bytes
	note([][]byte)   // takes the key of a row that belongs to the batch
	take(int) []T    // returns the first rows

	digest(row T, column int) uint32 // the number of a value
}

// errChanged says that the columns are not those of the plan, or that the key comes from another table.
var errChanged = errors.New("the columns, or the table that has the key, changed again and again while a batch was read")

// rounds is how often one Fetch begins again because the columns changed.
const rounds = 4

// position is where to read from: a cursor, decoded.
type position struct {
	cursor source.Cursor
	key    []dialect.Value
	origin origin
	edited bool // another select or condition made the cursor
}

// fetch is Fetch for all kinds of records; open makes those of a batch. DESIGN.md names the stages
// that a batch passes: start, connect, plan, ceiling, checks, read.
func fetch[T any](ctx context.Context, s *state, of fields, after source.Cursor, limit int, open func(*plan, int) (records[T], error)) (source.Batch[T], error) {
	none := source.Batch[T]{From: after, To: after}
	at, err := s.begin(ctx, of, after, limit)
	if err != nil {
		return none, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logEdited(ctx, at)
	s.reread = rereaderOf(s, open)
	b, err := fetchFinished(ctx, s, at, limit, open)
	if errors.Is(err, errDoubtful) {
		s.window = nil
		b, err = fetchFinished(ctx, s, at, limit, open)
	}
	var r *refusal
	if errors.As(err, &r) {
		b = none
		at.origin = origin{table: at.origin.table, refused: r.reason} // the reason needs the room
		b.More = true                                                 // ask again at once, for the error
		b.To, err = encode(s.query.print, at.origin, at.key)
	}
	if err != nil {
		return none, err
	}
	s.logPlan(ctx, b.To) // now that the connection is given back: there may be only one
	b.Guarantee, b.Position = s.guarantee, positionText(s.query.key, b.To)
	if s.origin.Table != nil && s.asked.Before(b.AsOf) {
		b.AsOf = s.asked // a view that was replaced since shows rows that are not below the limit
	}
	return b, nil
}

// fetchFinished fetches a batch and finds its cursor.
func fetchFinished[T any](ctx context.Context, s *state, at position, limit int, open func(*plan, int) (records[T], error)) (b source.Batch[T], err error) {
	err = s.withPlan(ctx, func(db ceiling.Queryer) (err error) {
		s.to, s.unfinished, s.delivered = "", nil, nil
		b, err = fetchBatch(ctx, s, db, at, limit, open)
		return err
	})
	for _, f := range s.unfinished {
		if err == nil || errors.As(err, new(*source.BadRecord)) {
			err = cmp.Or(s.query.withConn(ctx, f), err)
		}
	}
	b.To = cmp.Or(s.to, b.To)
	return b, err
}

// begin checks the arguments of a Fetch, and decodes its cursor.
func (s *state) begin(ctx context.Context, of fields, after source.Cursor, limit int) (position, error) {
	q, err := s.init(of)
	if err != nil {
		return position{}, err
	}
	if limit < 1 {
		return position{}, permanent("%s: the caller asked for a limit of %d rows", q.label, limit)
	}
	if err := ctx.Err(); err != nil {
		return position{}, q.wrap(err, nil)
	}
	at, err := q.position(after)
	if err == nil && at.origin.refused != "" {
		err = permanent("%s: %w", q.label, &refusal{at.origin.refused})
	}
	return at, err
}

// position decodes a cursor. An empty one stands where Start says.
func (q *query) position(after source.Cursor) (at position, err error) {
	at.cursor = after
	from := after
	if after == "" && q.start != Latest {
		from = q.start
	}
	if from != "" {
		at.key, at.origin, err = decode(from, q.print, len(q.key))
	}
	if errors.As(err, new(otherQuery)) && at.origin.table == q.identity {
		at.edited, err = true, nil
		at.origin.anchors = nil // of rows with other columns
	}
	return at, err
}

// logEdited warns, once, that another select or condition made the cursor.
func (s *state) logEdited(ctx context.Context, at position) {
	if at.edited && !s.edited {
		s.edited = true
		s.query.logger().WarnContext(ctx, "query changed", "table", s.query.label, "cursor", at.cursor,
			"fix", "nothing, if rows up to the cursor need not be read again; otherwise "+rewindAdvice)
	}
}

// withPlan calls f with a connection and a plan for the present columns. It calls f again if
// the columns changed before f returned.
func (s *state) withPlan(ctx context.Context, f func(ceiling.Queryer) error) error {
	for round := 1; ; round++ {
		err := s.query.withConn(ctx, func(db ceiling.Queryer) error {
			if err := s.makePlan(ctx, db); err != nil {
				return err
			}
			return f(db)
		})
		changed, failed := s.changed(ctx, err)
		if changed {
			s.stale, s.nonce, s.window = true, rand.Int(), nil // rows are judged by a window of the same plan
			if err == nil || errors.Is(err, errChanged) {
				err = s.query.wrap(errChanged, nil)
			}
			if round < rounds {
				continue
			}
		}
		if err = cmp.Or(failed, err); err != nil && !errors.As(err, new(*source.BadRecord)) {
			s.window = nil // the next connection may lead to another server
		}
		return err
	}
}

// changed reports whether the columns may have changed since the plan was made. They are
// compared after rows were read by it, and after an error that a change may explain. That takes
// a connection from the pool: the one before may have been closed. After the first rows below a
// ceiling, and after a while without rows, the table that has the key is asked for as well.
func (s *state) changed(ctx context.Context, err error) (changed bool, failed error) {
	if err != nil && (errors.Is(err, errChanged) || s.query.sql.ColumnsChanged(err)) {
		return true, nil
	}
	ask := err == nil && s.guard != nil && s.origin.Table != nil && (s.unproven && s.unasked || time.Since(s.asked) >= lookAfter)
	if s.plan == nil || s.stale || err == nil && !s.unproven && !ask || err != nil && (ctx.Err() != nil || retry.Classify(err) != retry.Fatal) {
		return false, nil
	}
	columns := s.unproven || err != nil
	s.unproven = false
	failed = s.query.withConn(ctx, func(db ceiling.Queryer) error {
		current, err := true, error(nil)
		if columns {
			current, err = s.plan.isCurrent(ctx, s.query, db)
		}
		if current && ask && err == nil {
			current, err = s.sameOrigin(ctx, db)
		}
		changed = !current && err == nil
		return err
	})
	return changed, failed
}

// makePlan makes the plan unless there is one that is up to date.
func (s *state) makePlan(ctx context.Context, db ceiling.Queryer) error {
	q := s.query
	if s.plan != nil && !s.stale {
		return nil
	}
	p, err := q.makePlan(ctx, db, s.nonce)
	if err != nil {
		return err
	}
	q.logChange(ctx, s.plan, p)
	s.plan, s.stale, s.nulls = p, false, time.Time{}
	return nil
}

// fetchBatch reads a batch below the ceiling. When all rows below an old one are read, it
// asks where the ceiling is now, and reads on.
func fetchBatch[T any](ctx context.Context, s *state, db ceiling.Queryer, at position, limit int, open func(*plan, int) (records[T], error)) (b source.Batch[T], err error) {
	b.From, b.To = at.cursor, at.cursor
	looked := !s.nulls.IsZero()
	if err := s.lookFirst(ctx, db); err != nil {
		return b, err
	}
	if at.cursor == "" && s.query.start == Latest {
		b.To, err = s.startLatest(ctx, db)
		return b, err
	}
	if at.cursor == "" && at.key != nil {
		b.To = s.query.start
	}
	limit = min(limit, s.guess(s.query.maxBytes))
	into, err := open(s.plan, limit)
	if err != nil {
		return b, err
	}
	r := newReader(s.query, db, s.plan, at.key, limit)
	r.add, r.note = into.add, into.note
	r.bind(into.bind)
	first, w := at, (*window)(nil)
	for ended := false; !ended; {
		next, fresh, err := s.windowAfter(ctx, db, at)
		if r.rows > 0 && errors.As(err, new(*refusal)) {
			r.more, w.reused = true, true // the next batch judges that, by the rows of this one
			break
		} else if err != nil {
			return b, err
		}
		if b.Held, err = s.check(ctx, db, next, at.key); err != nil {
			return b, err
		} else if b.Held != nil {
			break
		}
		before, hidden := r.rows, r.hidden
		if at, err = s.readBelow(ctx, r, next, at); err != nil {
			return b, s.finishBad(ctx, db, r, first, next, err)
		}
		if w == nil || r.rows > before {
			w = next // the cursor is of the history in which its row was read
		}
		b.Pending = next.pending(at.key)
		if r.more {
			break
		} else if r.hidden && !hidden {
			s.window = nil // the history may have changed
			continue
		}
		ended = fresh && !next.More
		s.window, b.AsOf, b.Held = nil, next.AsOf, next.Held
	}
	if r.rows > 0 || w != nil && w.moved {
		err = finishRows(ctx, s, db, r, first, at.key, w, into, &b)
	}
	if err == nil && !b.More && looked {
		err = s.findNull(ctx, db, at.key, r.rows > 0)
	}
	return b, err
}

// guess estimates how many rows take maxBytes. It is a power of two, because each number makes
// another statement, and drivers keep statements prepared.
func (s *state) guess(maxBytes int) int {
	if s.rowSize == 0 {
		return firstLimit
	}
	n := max(maxBytes/s.rowSize, 1)
	return 1 << (bits.Len(uint(n)) - 1)
}

// logPlan warns, once, if no index is used to read on after a cursor. No plan is asked for
// where the ceiling has looked for an index itself, nor on the caller's connection, whose transaction it would end.
func (s *state) logPlan(ctx context.Context, after source.Cursor) {
	q := s.query
	if s.explained || q.conn != nil || s.guard == nil || q.rows && s.guard.Report().Indexed {
		return
	}
	key, _, err := decode(after, q.print, len(q.key))
	if err != nil || key == nil {
		return
	}
	s.explained = true
	var f ceiling.Finding
	statement, args, err := q.statement(s.plan, s.plan.list, keyRange{after: key, plain: true, limit: firstLimit + 1})
	if err == nil {
		err = q.withConn(ctx, func(db ceiling.Queryer) error {
			_, f, err = q.sql.Explain(ctx, db, statement, args, true)
			return err
		})
	}
	if err != nil {
		q.logger().DebugContext(ctx, "query plan not available", "table", q.label, "err", retry.Text(err))
	} else if f.Level == ceiling.Warning {
		q.logger().WarnContext(ctx, "inefficient query plan", "table", q.label, "warning", f.Text, "fix", f.Remedies[0].Words)
	}
}

// wrap says which query an error is of, and which cursor, if the database refuses its key.
func (q *query) wrap(err error, after []dialect.Value) error {
	if err == nil {
		return nil
	}
	if after != nil && q.sql.RefusedValue(err) {
		return permanent("%s: the database does not accept the cursor's key, %s, or a value in a condition: %w; rewind to a cursor that At returns", q.label, describeKey(q.key, after), err)
	}
	if strings.Contains(err.Error(), "too many columns in result set") {
		return permanent("%s: the columns, the key and the size of a row are together more columns than the database returns; name fewer in Columns or Select: %w", q.label, err)
	}
	return fmt.Errorf("sqlsource: %s: %w", q.label, err)
}
