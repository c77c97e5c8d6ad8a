package xminsource

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

type queryer = ceiling.Queryer

// withDB calls f with one connection. If it is dead, or dies, f is called again with another one: f
// only reads, and all connections of the pool may be dead.
func (s *Source) withDB(ctx context.Context, f func(queryer) error) error {
	for left := s.DB.Stats().Idle + 2; ; left-- {
		conn, err := s.DB.DB.Conn(ctx)
		dead := errors.Is(err, driver.ErrBadConn)
		if err == nil {
			err = s.inSession(ctx, conn, f)
			dead = errors.Is(err, driver.ErrBadConn) || err != nil && ctx.Err() == nil && conn.PingContext(ctx) != nil
			conn.Close()
		}
		if !dead || left == 0 {
			return err
		}
	}
}

// inSession calls f with a connection as the dialect uses it.
func (s *Source) inSession(ctx context.Context, conn *sql.Conn, f func(queryer) error) (err error) {
	if s.session == nil {
		if s.session, err = (postgres.Dialect{}).Session(ctx, conn, true, s.guard.parts); err != nil {
			return s.wrap(err)
		}
	}
	db, restore, err := s.session(ctx, conn)
	if restore != nil {
		defer restore()
	}
	if err == nil {
		err = f(db)
	}
	if err != nil {
		s.session = nil // the next connection may lead to another server, or to a pooler
	}
	return err
}

// state is the state of a server at one moment.
type state struct {
	at         time.Time // before it was asked
	xmin, xmax uint64    // of a snapshot: all transactions below xmin have ended, none from xmax on has
	running    uint64    // transactions in the snapshot
	history    dialect.History
}

// readState takes a snapshot, and then reads the history: its mark is after the end of all
// transactions below xmin.
func (s *Source) readState(ctx context.Context, db queryer) (st state, err error) {
	st.at = time.Now()
	var xmin, xmax string
	var standby bool
	var replayed sql.NullFloat64
	err = db.QueryRowContext(ctx, `SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text, (SELECT count(*) FROM pg_snapshot_xip(s)),
		pg_is_in_recovery(), extract(epoch FROM pg_last_xact_replay_timestamp())::float8 FROM pg_current_snapshot() AS s`).
		Scan(&xmin, &xmax, &st.running, &standby, &replayed)
	if err == nil {
		st.xmin, err = strconv.ParseUint(xmin, 10, 64)
	}
	if err == nil {
		st.xmax, err = strconv.ParseUint(xmax, 10, 64)
	}
	if err != nil {
		return st, s.wrap(fmt.Errorf("reading the oldest transaction in progress: %w", err))
	}
	if standby {
		st.at = time.Time{}
		if replayed.Valid {
			st.at = time.UnixMicro(int64(replayed.Float64 * 1e6)).Add(-disorder)
		}
	}
	st.history, err = postgres.Dialect{}.History(ctx, db, s.guard.parts, "")
	if err != nil {
		err = s.wrap(fmt.Errorf("reading what identifies the database's history: %w", err))
	}
	return st, err
}

// disorder is by how much the times of commits may differ from their order in the log.
const disorder = time.Second

// maxDistance is how many transaction ids a cursor can lie back. The ids of row versions have 32
// bits and are compared on a ring, and half of it is in the past.
const maxDistance = 1<<31 - 1<<24

// follows compares a position with the state of a server.
func (p position) follows(st state) error {
	if err := p.history.follows(st.history); err != nil {
		return err
	}
	switch top := max(p.from, p.below); {
	case top > st.xmax && st.history.Standby, p.below > st.xmin && st.history.Standby:
		return errBehind
	case top > st.xmax, p.below > st.xmin:
		return refuse(rereadAdvice, "the next transaction of this cluster has the id %d, the cursor was made at %d: this is another cluster, or it was restored to an earlier state", st.xmax, top)
	case p.from != 0 && st.xmax-p.from > maxDistance, p.inPass() && st.xmax-p.below > maxDistance:
		return refuse(rereadAdvice, "the cluster has given out more than %d transaction ids since the cursor was made, and those of row versions are not unique any more; poll more often", uint64(maxDistance))
	}
	return nil
}

// candidate is a state from which the next pass takes its X1.
type candidate struct {
	state
	read time.Time
}

// durable reports whether a crash cannot take back a transaction below the candidate's xmin.
func (c *candidate) durable(now dialect.History) bool {
	return now.Flushed >= c.history.Mark || now.Standby || now.Flushes > 0 && time.Since(c.read) > now.Flushes
}

// unflushed is the holder of rows whose commit is not on disk yet.
const unflushed = "the server's write-ahead log, which is not on disk yet (asynchronous commit)"

// flushRetry is how long to wait before asking whether the log is on disk.
const flushRetry = 5 * time.Millisecond

// below returns the state that fixes the X1 of the next pass. After a crash, ids of transactions
// that were not on disk are given out again, so it must be durable first.
func (s *Source) below(ctx context.Context, db queryer, p position) (*candidate, *source.Held, error) {
	if err := s.guard.probe(ctx, db); err != nil {
		return nil, nil, err
	}
	st, err := s.readState(ctx, db)
	if err == nil {
		err = s.refused(p.follows(st))
	}
	if err != nil {
		return nil, nil, err
	}
	s.progress.see(st)
	if c := s.candidate; c == nil || c.history.Boot != st.history.Boot || c.xmin < p.from {
		s.candidate = &candidate{st, time.Now()}
	}
	c := s.candidate
	if c.durable(st.history) {
		s.candidate = nil
		return c, nil, nil
	}
	return nil, &source.Held{Since: c.read, Retry: flushRetry, By: []string{unflushed}}, nil
}

// refused marks a refusal as permanent, and keeps its text. Other errors get the table's name.
func (s *Source) refused(err error) error {
	if errors.As(err, new(*refusal)) {
		return retry.Permanent(err)
	}
	return s.wrap(err)
}

// progress is how current the source is.
type progress struct{ ceiling.Progress }

func (p *progress) see(st state) {
	if !st.at.IsZero() {
		p.See(int64(st.xmax), st.at)
	}
}

// delivered records that all versions below a candidate's xmin were delivered. since is when rows
// that may wait were first seen: zero if no transaction from xmin on has ended.
func (p *progress) delivered(c *candidate) (asOf, since time.Time) {
	if c.at.IsZero() {
		return time.Time{}, c.waits(c.read)
	}
	if c.xmax-c.xmin == c.running {
		asOf, _ = p.Advance(math.MaxInt64, c.at)
		return asOf, time.Time{}
	}
	asOf, since = p.Advance(int64(c.xmin), c.at)
	if since.IsZero() {
		since = c.read
	}
	return asOf, c.waits(since)
}

func (c *candidate) waits(since time.Time) time.Time {
	if c.xmax-c.xmin == c.running {
		return time.Time{}
	}
	return since
}

// oldest names the transaction that all others wait for.
func oldest(ctx context.Context, db queryer) ([]string, error) {
	return postgres.OldestTransaction(ctx, db)
}

// quoteName returns a name's parts for SQL.
func quoteName(parts []string) string { return dialect.QuoteAll(postgres.Dialect{}, parts) }

var escaped = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// array writes an array as text.
func array[T int64 | string](items []T) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, item := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		escaped.WriteString(&b, fmt.Sprint(item)) //nolint:errcheck // it never fails
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}
