package snapshot

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// session is a transaction, and the connection that has begun it.
type session struct {
	id      string
	conn    *sql.Conn
	moment  time.Time
	history string
	standby bool // which lags behind its primary
}

// begin begins a transaction, unless one is open.
func (e *engine) begin(ctx context.Context) error {
	if e.session != nil {
		return nil
	}
	for left := e.opts.DB.Stats().Idle + 1; ; left-- {
		s, err := e.beginOn(ctx)
		if err == nil {
			e.session = s
			e.progress = progress{begun: time.Now()}
			return nil
		}
		if left == 0 || !errors.Is(err, driver.ErrBadConn) || ctx.Err() != nil {
			return err
		}
	}
}

func (e *engine) beginOn(ctx context.Context) (_ *session, err error) {
	conn, err := e.opts.DB.DB.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	defer func() {
		if err != nil {
			ceiling.Discard(conn)
			err = wrap(err)
		}
	}()
	s := &session{id: newID(), conn: conn}
	err = e.use(ctx, conn, func(db ceiling.Queryer) error {
		if e.apart {
			s.moment = time.Now().UTC()
			return e.describe(ctx, db, s)
		}
		begin, err := e.server.prepare(ctx, db, e.tables)
		for _, statement := range begin {
			if err == nil {
				err = exec(ctx, conn, statement)
			}
		}
		if err != nil {
			return e.server.refused(err)
		}
		s.moment = time.Now().UTC() // before the snapshot is taken
		warning, err := e.server.begun(ctx, db, e.tables)
		if err != nil {
			return err
		}
		if warning != "" {
			e.opts.Logger.WarnContext(ctx, "snapshot blocks writers", "warning", warning)
		}
		return e.describe(ctx, db, s)
	})
	return s, err
}

// describe reads the database's facts about itself and the tables.
func (e *engine) describe(ctx context.Context, db ceiling.Queryer, s *session) error {
	h, err := e.sql.History(ctx, db, nil, "")
	if err != nil {
		return fmt.Errorf("reading what identifies the database: %w", err)
	}
	s.standby = h.Standby
	for _, p := range h.Parts {
		if p.Value != "" && p.Name != "timeline" { // which changes when a standby takes over: the rest is read there
			s.history += p.Name + " " + p.Value + ";"
		}
	}
	if s.history != "" {
		s.history = fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(s.history)))
	}
	var inconsistent []string
	for _, t := range e.tables {
		t.reset()
		if t.Select != "" {
			continue
		}
		if err := e.server.describe(ctx, db, t); err != nil {
			return fmt.Errorf("%s: reading what the database says about the table: %w", t.Name, err)
		}
		if t.inconsistent != "" {
			inconsistent = append(inconsistent, t.Name+" ("+t.inconsistent+")")
		}
	}
	e.guarantee = guaranteeOf(s.moment, inconsistent)
	level := slog.LevelInfo
	if inconsistent != nil {
		level = slog.LevelWarn
	}
	e.opts.Logger.Log(ctx, level, "snapshot begun", "tables", len(e.tables), "guarantee", e.guarantee.Text)
	return nil
}

// use calls f with a connection as the dialect uses it.
func (e *engine) use(ctx context.Context, conn *sql.Conn, f func(ceiling.Queryer) error) error {
	db, restore, err := e.prepared(ctx, conn, false, nil)
	if restore != nil {
		defer restore()
	}
	if err != nil {
		return err
	}
	return f(db)
}

// prepared returns a connection as the dialect uses it. zone and parts are those of [dialect.Reader].
func (e *engine) prepared(ctx context.Context, conn *sql.Conn, zone bool, parts []string) (db ceiling.Queryer, restore func(), err error) {
	prepare, err := e.sql.Session(ctx, conn, zone, parts)
	if err != nil {
		return nil, nil, err
	}
	return prepare(ctx, conn)
}

// failed finds out whether the transaction survives an error, and forgets it if not.
func (e *engine) failed(ctx context.Context, err error) error {
	var bad *source.BadRecord
	if errors.As(err, &bad) || e.session == nil {
		return err
	}
	gone, aborted := e.server.lost(err), false
	if !gone {
		probe, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeLimit)
		defer cancel()
		failed := exec(probe, e.session.conn, e.server.goOn())
		gone, aborted = failed != nil, e.server.aborted(failed)
	}
	if !gone {
		return err
	}
	e.opts.Logger.WarnContext(ctx, "snapshot lost", "err", retry.Text(err))
	lost := e.server.lost(err)
	e.apart = aborted && e.session.standby
	e.drop()
	if lost { // whatever the driver calls it, a new transaction helps
		return fmt.Errorf("snapshot: the transaction was lost: %s", retry.Text(err))
	}
	return err
}

// probeLimit is how long it may take to find out whether a transaction is alive.
const probeLimit = 2 * time.Second

// drop closes the connection, which ends the transaction.
func (e *engine) drop() {
	for _, t := range e.tables {
		t.reset()
	}
	ceiling.Discard(e.session.conn)
	e.session = nil
}

func (e *engine) close() (err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.session == nil {
		return nil
	}
	streams := false
	for _, t := range e.tables {
		streams = streams || t.stream != nil && !t.stream.ended
		t.reset()
	}
	conn := e.session.conn
	e.session = nil
	if streams { // the rest of a result would be read to its end
		ceiling.Discard(conn)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeLimit)
	defer cancel()
	for _, statement := range e.server.end() {
		if err == nil {
			err = exec(ctx, conn, statement)
		}
	}
	if err != nil {
		ceiling.Discard(conn)
		return nil // the server ends the transaction of a connection that is closed
	}
	return conn.Close()
}

// exec runs a statement without arguments, in one round trip.
func exec(ctx context.Context, conn *sql.Conn, statement string) error {
	_, err := conn.ExecContext(ctx, statement)
	return err
}

func newID() string {
	var b [6]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func guaranteeOf(moment time.Time, inconsistent []string) *source.Guarantee {
	text := "all rows as of " + moment.Format(time.RFC3339) + ", one consistent moment; later changes are not read"
	if inconsistent != nil {
		text += "; tables outside of the database's transactions are read as they are when it is their turn: " + strings.Join(inconsistent, ", ")
	}
	return &source.Guarantee{Name: "snapshot", Text: text}
}

// wrap adds the package's name to an error that lacks it.
func wrap(err error) error {
	if strings.HasPrefix(err.Error(), "snapshot: ") || strings.HasPrefix(err.Error(), "sqlsource: ") {
		return err
	}
	return fmt.Errorf("snapshot: %w", err)
}

// shownName writes a schema and a table as [dialect.SplitName] reads them.
func shownName(parts ...string) string {
	shown := make([]string, len(parts))
	for i, p := range parts {
		shown[i] = p
		if strings.ContainsAny(p, `."`) {
			shown[i] = dialect.QuoteWith(`"`, p)
		}
	}
	return strings.Join(shown, ".")
}
