package pglog

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

const (
	// window is how many messages the server decodes in one statement, before the first one
	// arrives. It stops only between transactions.
	window = 50_000

	// maxGrowth is how often the window is doubled while a backlog is read.
	maxGrowth = 3

	// growLimit is how long reading a window may take for the next one to be larger.
	growLimit = 5 * time.Second

	// reach is how much of the log it decodes in one statement, if it finds less.
	reach = 256 << 20

	// streamLimit is how long a result may stay open after its first row. It pins a snapshot on the server, as a
	// long query does.
	streamLimit = 10 * time.Minute

	// activeLimit is how long a statement waits for the slot: the server may still be busy with
	// an earlier statement that was cancelled.
	activeLimit = 5 * time.Second
)

// stream is a result of the server's decoder that is being read.
type stream struct {
	ctx    context.Context // of the statement
	cancel context.CancelFunc
	end    context.CancelCauseFunc
	ready  chan struct{} // closed when the first row has arrived, or with err
	came   bool          // ready was closed
	gone   chan struct{} // closed when the connection is given back
	since  time.Time
	first  time.Time // when the first row arrived
	err    error
	rows   *sql.Rows
	server *server // when it began
	data   data
	unread bool // rows stands at a row that was not read yet
	leave  func() bool

	from      cursor               // where it begins
	given     cursor               // after the changes that were handed out
	upTo      lsn                  // the end of what is decoded
	confirmed lsn                  // where the slot stood
	limit     int                  // how many messages are decoded at most
	count     int                  // that have come
	news      bool                 // one of them was after from
	tables    map[uint32]*relation // nil: one that is not wanted
	wanted    func(layout) bool
	shape     func(context.Context, layout, string) (*shape, error)

	now     cursor // after the changes that were taken
	tx      *transaction
	met     bool // the transaction of from.last has come
	queue   []*relation
	pending *message // read, but not handed out; nil or &message
	message message
}

// data is the memory of a message, which is used again for the next one.
type data []byte

// Scan implements [sql.Scanner].
func (d *data) Scan(src any) error {
	b, ok := src.([]byte)
	if !ok {
		return fmt.Errorf("the driver returned a %T for a message of the log", src)
	}
	*d = append((*d)[:0], b...)
	return nil
}

// message is a change to deliver. Its body is valid until the next one is read.
type message struct {
	kind  byte
	rel   *relation
	tx    *transaction
	body  []byte
	after cursor
}

// open begins to decode, after it has advanced the slot unless to is 0. It does not wait for the server.
func (s *Source) open(v *server, from cursor, upTo lsn, limit int, to lsn) *stream {
	own, end := context.WithCancelCause(context.Background())
	st := &stream{ctx: own, cancel: func() { end(nil) }, end: end, ready: make(chan struct{}), gone: make(chan struct{}), since: time.Now(),
		server: v, from: from, given: from, now: from, upTo: upTo, confirmed: v.slot.confirmed, limit: limit,
		tables: map[uint32]*relation{}, wanted: s.wanted(), shape: s.shape}
	go func() {
		defer close(st.gone)
		if to != 0 {
			s.advanceFirst(own, st, to)
		}
		began := false
		err := s.with(own, func(db session) error {
			if err := s.start(own, db, st); err != nil {
				return err
			}
			defer st.limitTime().Stop()
			began, st.first = true, time.Now()
			close(st.ready)
			<-own.Done()
			err := st.rows.Close()
			db.rollback(own)
			return err
		})
		if !began {
			st.err = cmp.Or(err, errEnded)
			close(st.ready)
		}
	}()
	return st
}

// decoding reads the log. The settings that it applies before the first row make the text of values independent of
// the session, as in [postgres.Dialect.Settings].
func decoding() string {
	return `SELECT data FROM pg_logical_slot_peek_binary_changes($1::name, $2::text::pg_lsn, $3::int, 'proto_version', '1', 'publication_names', $4::text)
		WHERE ` + postgres.Dialect{}.Settings(true).Where
}

// unlimited begins a transaction in which the server does not limit the time of statements: decoding a large
// transaction takes long before the first row. Through a pooler as well, the limits are back when the transaction ends.
func unlimited(ctx context.Context, db ceiling.Queryer) error {
	err := ceiling.Exec(ctx, db, "BEGIN ISOLATION LEVEL READ COMMITTED")
	if err == nil {
		err = ceiling.Exec(ctx, db, `SELECT set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')`)
	}
	return err
}

// start runs the statement, and waits for its first row.
func (s *Source) start(ctx context.Context, db session, st *stream) (err error) {
	publication := postgres.Dialect{}.Quote(s.Publication)
	for late := time.Now().Add(activeLimit); ; {
		if err = unlimited(ctx, db); err == nil {
			st.rows, err = db.QueryContext(ctx, decoding(), s.Slot, st.upTo.String(), st.limit, publication) //nolint:rowserrcheck // next does
		}
		if err == nil {
			if st.unread = st.rows.Next(); st.unread {
				return nil
			}
			err = errors.Join(st.rows.Err(), st.rows.Close())
		}
		db.rollback(ctx)
		if err == nil || dberr.SQLState(err) != "55006" || time.Now().After(late) {
			return s.explain(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// close gives the connection back.
func (st *stream) close() {
	st.cancel()
	<-st.gone
}

// follow ends the statement if ctx ends before leave is called. Once for each batch, because it is too slow for
// each message.
func (st *stream) follow(ctx context.Context) { st.leave = context.AfterFunc(ctx, st.cancel) }

// wait waits for the first row.
func (st *stream) wait(ctx context.Context, late time.Time) error {
	if !st.came {
		select {
		case <-st.ready:
			st.came = true
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(0, time.Until(late))):
			return errBusy
		}
	}
	return st.err
}

// next returns the next change to deliver, or errEnded. It stays pending until it is taken.
func (st *stream) next(ctx context.Context) (m *message, err error) {
	for st.pending == nil && err == nil {
		if len(st.queue) > 0 {
			rel := st.queue[0]
			st.queue = st.queue[1:]
			st.pending, err = st.change(msgTruncate, rel, nil)
			continue
		}
		if !st.unread && !st.rows.Next() {
			if err = errors.Join(st.rows.Err(), ctx.Err()); err == nil {
				err = st.finished()
			}
			return nil, err
		}
		st.unread = false
		st.count++
		if err = st.rows.Scan(&st.data); err == nil {
			st.pending, err = st.read(ctx, st.data)
		}
	}
	return st.pending, err
}

// expired reports whether the result was open for too long.
func (st *stream) expired() bool { return errors.Is(context.Cause(st.ctx), errExpired) }

// limitTime ends the result after streamLimit. It is called when the first row has come: what the server needs to
// decode before has no limit, because a shorter attempt brings nothing.
func (st *stream) limitTime() *time.Timer {
	return time.AfterFunc(streamLimit, func() { st.end(errExpired) })
}

// take hands out the pending change.
func (st *stream) take() { st.given, st.pending = st.pending.after, nil }

// finished returns errEnded, or that the log is not the one that the cursor was made in.
func (st *stream) finished() error {
	if !st.met && st.count < st.limit && st.expected() && st.from.last.commit < st.upTo {
		return errDiverged
	}
	return errEnded
}

var (
	errEnded    = errors.New("the result has ended")
	errExpired  = errors.New("the result was open for too long")
	errDiverged = errors.New("the log does not have the transactions that were delivered")
)

// expected reports whether the decoder must meet the last transaction that was delivered.
func (st *stream) expected() bool {
	return st.from.last.commit != 0 && st.from.last.commit >= st.confirmed
}

// read reads a message. It returns the change if there is one to deliver.
func (st *stream) read(ctx context.Context, raw []byte) (*message, error) {
	d := decoder{b: raw}
	switch kind := d.u8(); kind {
	case msgBegin:
		st.beginTransaction(d.begin())
	case msgCommit:
		return nil, cmp.Or(st.endTransaction(d.commitEnd()), d.err)
	case msgRelation:
		l := d.layout()
		if d.err != nil {
			return nil, d.err
		}
		return nil, st.describe(ctx, l, raw)
	case msgInsert, msgUpdate, msgDelete:
		rel, err := st.relation(d.u32())
		if err = cmp.Or(d.err, err); err != nil {
			return nil, err
		}
		return st.change(kind, rel, d.b)
	case msgTruncate:
		for _, id := range d.truncated() {
			rel, err := st.relation(id)
			if err != nil {
				return nil, err
			}
			st.queue = append(st.queue, rel)
		}
	case msgType, msgOrigin, msgLogical:
		return nil, nil
	default:
		return nil, retry.Permanent(fmt.Errorf("the log has a message of the unknown kind %q", kind))
	}
	return nil, d.err
}

func (st *stream) beginTransaction(b begin) {
	t := &transaction{begin: b, time: b.at(), id: strconv.FormatUint(uint64(b.xid), 10), position: b.commit.String()}
	switch {
	case b.commit > st.from.at:
		st.now.position = position{at: b.commit}
	case b.commit == st.from.at:
		t.skip = st.from.n
	}
	if seen := st.from.seen; b.commit < seen.until {
		t.filtered, t.repeated = seen.sees(b.xid), seen.repeated
	}
	st.tx = t
}

func (st *stream) endTransaction(end lsn) error {
	t := st.tx
	switch {
	case t == nil:
		return errors.New("the log has a commit outside of a transaction")
	case t.changes < t.skip:
		return errDiverged
	case t.commit >= st.from.at:
		st.now.passed(end)
	}
	st.tx = nil
	return nil
}

// passed moves the cursor to a position between two transactions.
func (c *cursor) passed(at lsn) {
	c.position = position{at: at}
	if at >= c.seen.until {
		c.seen = filter{}
	}
}

func (st *stream) describe(ctx context.Context, l layout, raw []byte) error {
	if !st.wanted(l) {
		st.tables[l.id] = nil
		return nil
	}
	s, err := st.shape(ctx, l, string(raw))
	if err != nil {
		return err
	}
	if old := st.tables[l.id]; old == nil || old.shape != s {
		st.tables[l.id] = newRelation(s)
	}
	return nil
}

func (st *stream) relation(id uint32) (*relation, error) {
	rel, ok := st.tables[id]
	if !ok || st.tx == nil {
		return nil, errors.New("the log has a change outside of a transaction, or of a table that it did not describe")
	}
	return rel, nil
}

// change counts a change. It returns the message if it must be delivered.
func (st *stream) change(kind byte, rel *relation, body []byte) (*message, error) {
	t := st.tx
	t.changes++
	if t.commit < st.from.at || t.commit == st.from.at && t.changes <= t.skip {
		return nil, st.verify()
	}
	if !st.met && st.expected() && t.commit > st.from.last.commit {
		return nil, errDiverged
	}
	st.news = true
	st.now.n = t.changes
	st.now.last = t.mark()
	if rel == nil || t.filtered {
		return nil, nil
	}
	st.message = message{kind: kind, rel: rel, tx: t, body: body, after: st.now}
	return &st.message, nil
}

// verify returns an error if the log differs in a transaction that the cursor has passed.
func (st *stream) verify() error {
	last := st.from.last
	switch {
	case st.tx.mark() == last:
		st.met = true
	case st.tx.commit >= last.commit:
		return errDiverged
	}
	return nil
}
