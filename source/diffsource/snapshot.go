package diffsource

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/builtin"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// beginner begins a transaction in which all reads of a table see one moment.
type beginner func(ctx context.Context, db ceiling.Queryer, d dialect.Dialect, t *sqlsource.Table) error

// beginnerOf returns the beginner for a database by its name, and nil if none is known.
func beginnerOf(name string) beginner {
	statements := func(all ...string) beginner {
		return func(ctx context.Context, db ceiling.Queryer, _ dialect.Dialect, _ *sqlsource.Table) error {
			return execAll(ctx, db, all...)
		}
	}
	switch name {
	case "Postgres":
		return beginPostgres
	case "MySQL or MariaDB":
		return statements("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
	case "SQLite":
		return statements("BEGIN")
	}
	return nil
}

// snapshot is a transaction, and the connection that has begun it.
type snapshot struct {
	conn  *sql.Conn
	until time.Time
}

// beginSnapshot begins a transaction, and returns the table as it sees it.
func (s *Source) beginSnapshot(ctx context.Context) (_ *snapshot, _ *sqlsource.Table, err error) {
	t := s.all()
	d := t.Dialect
	if d == nil {
		if d, err = builtin.Find(t.DB); err != nil {
			return nil, nil, retry.Permanent(fmt.Errorf("diffsource: %w", err))
		}
	}
	begin := beginnerOf(d.Name())
	if begin == nil {
		return nil, nil, retry.Permanent(fmt.Errorf("diffsource: Snapshot is set, and %s is not a database for which this package knows how to begin one", d.Name()))
	}
	conn, err := t.DB.DB.Conn(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("diffsource: %w", err)
	}
	if err := beginOn(ctx, conn, begin, d, t); err != nil {
		ceiling.Discard(conn)
		return nil, nil, fmt.Errorf("diffsource: begin a snapshot: %w", err)
	}
	t.Conn = conn
	return &snapshot{conn, time.Now().Add(s.Snapshot)}, t, nil
}

// beginOn calls begin with a connection as the dialect uses it.
func beginOn(ctx context.Context, conn *sql.Conn, begin beginner, d dialect.Dialect, t *sqlsource.Table) error {
	session, err := d.Session(ctx, conn, false, nil)
	if err != nil {
		return err
	}
	db, restore, err := session(ctx, conn)
	if restore != nil {
		defer restore()
	}
	if err != nil {
		return err
	}
	return begin(ctx, db, d, t)
}

// end ends the transaction and gives the connection back.
func (s *snapshot) end() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := s.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		ceiling.Discard(s.conn)
		return
	}
	_ = s.conn.Close() // gives it back to the pool
}

// fillRows is that of the pager, outside of the snapshot if that fails: an error can end the transaction, and on a standby
// of Postgres it always does, whether a row cannot be returned or the primary's changes are in the way. The next page
// has a new snapshot.
func (p *pass) fillRows(ctx context.Context, n int) error {
	err := p.pager.fillRows(ctx, n)
	if err == nil || p.snapshot == nil || ctx.Err() != nil {
		return err
	}
	p.snapshot.end()
	p.snapshot, p.table, p.keyTable = nil, p.source.table, p.source.keys
	return p.pager.fillRows(ctx, n)
}

// renew begins a transaction for the rows that follow, if the last one is too old.
func (p *pass) renew(ctx context.Context) error {
	s := p.source
	if s.Snapshot <= 0 || p.ended || p.snapshot != nil && time.Now().Before(p.snapshot.until) {
		return nil
	}
	p.snapshot.end()
	p.snapshot = nil
	moment, t, err := s.beginSnapshot(ctx)
	if err != nil {
		return err
	}
	p.snapshot, p.table, p.keyTable = moment, t, keysOf(t)
	return nil
}
