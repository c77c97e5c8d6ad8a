package pglog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// copier reads the existing rows in one snapshot.
type copier struct {
	conn *sql.Conn
	slot lsn // its position before the snapshot
	filter
	tables []table
	list   string // their fingerprint
	table  int    // the one that reader reads
	reader *sqlsource.Table
	unused *time.Timer // ends the transaction
}

// maxRunning is how many transactions a snapshot may have, so that a cursor can hold it.
const maxRunning = 400

// newCopier takes the snapshot. The slot must exist already, and settle must have returned: a transaction that the
// snapshot does not see is then in the log.
func (s *Source) newCopier(ctx context.Context, v *server) (_ *copier, err error) {
	tables, err := s.readTables(ctx)
	if err == nil {
		err = copyable(tables)
	}
	if err != nil {
		return nil, err
	}
	c := &copier{slot: v.slot.confirmed, tables: tables, list: fingerprint(tables), table: -1}
	if c.conn, err = s.DB.DB.Conn(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	var text, written string
	err = ceiling.Exec(ctx, c.conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
	if err == nil {
		err = c.lock(ctx)
	}
	if err == nil { // the pauses between two batches are not limited
		err = ceiling.Exec(ctx, c.conn, `SELECT set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')`)
	}
	if err == nil {
		err = c.conn.QueryRowContext(ctx, `SELECT pg_current_snapshot()::text`).Scan(&text)
	}
	if err == nil { // after the snapshot
		err = c.conn.QueryRowContext(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&written)
	}
	if err != nil {
		return nil, fmt.Errorf("taking a snapshot: %w", err)
	}
	c.timeline = v.timeline
	c.snapshot, err = parseSnapshot(text)
	if err == nil {
		c.until, err = parseLSN(written)
	}
	if err == nil && len(c.running) > maxRunning {
		err = fmt.Errorf("%d transactions are running, and a cursor can name %d: the copy begins when there are fewer", len(c.running), maxRunning)
	}
	if err == nil {
		err = s.flushed(ctx, c)
	}
	c.unused = time.AfterFunc(streamLimit, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.copier == c {
			s.endCopy()
		}
	})
	return c, err
}

// lock locks the tables before the snapshot is taken: TRUNCATE, and an ALTER TABLE that rewrites a table, empty it
// for older snapshots. LOCK TABLE itself takes no snapshot.
func (c *copier) lock(ctx context.Context) error {
	if len(c.tables) == 0 {
		return nil
	}
	names := make([]string, len(c.tables))
	for i, t := range c.tables {
		names[i] = dialect.QuoteAll(postgres.Dialect{}, []string{t.schema, t.name})
	}
	err := ceiling.Exec(ctx, c.conn, "LOCK TABLE "+strings.Join(names, ", ")+" IN ACCESS SHARE MODE")
	if dberr.SQLState(err) == "42501" {
		return retry.Permanent(fmt.Errorf("%w: the role may not read a table: GRANT SELECT ON ..., see Setup: %w", ErrSetup, err))
	}
	return err
}

// flushed waits until everything that the snapshot sees is on disk: a crash takes back rows that an
// asynchronous commit has already made visible.
func (s *Source) flushed(ctx context.Context, c *copier) error {
	for asked := false; ; asked = true {
		var done bool
		err := c.conn.QueryRowContext(ctx, `SELECT pg_current_wal_flush_lsn() >= $1::text::pg_lsn`, c.until.onPage().String()).Scan(&done)
		if err == nil && !done && !asked { // an idle server leaves other records than commits for up to 15 seconds
			err = s.with(ctx, func(db session) error {
				_, err := number(ctx, db, `SELECT pg_current_xact_id()::text`)
				return err
			})
		}
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// onPage returns the end of the log before the header of a page that was only begun.
func (l lsn) onPage() lsn {
	switch in := l % 8192; {
	case in == 24 || in == 40:
		return l - in
	}
	return l
}

// copyable returns an error if the rows of a table cannot be copied.
func copyable(tables []table) error {
	for _, t := range tables {
		if t.hidden {
			return retry.Permanent(fmt.Errorf("%w: row-level security hides rows of %s from the role, and the log has all of them: ALTER ROLE ... BYPASSRLS", ErrSetup, t.label()))
		}
	}
	return identified(tables)
}

// close ends the transaction.
func (c *copier) close() {
	if c != nil {
		if c.unused != nil {
			c.unused.Stop()
		}
		session{c.conn, c.conn}.rollback(context.Background())
		c.conn.Close()
	}
}

// fetchCopy returns the next rows of the copy.
func (s *Source) fetchCopy(ctx context.Context, v *server, at cursor, limit int) (b source.Batch[row.Change], err error) {
	if s.copier != nil && s.copier.slot != v.slot.confirmed { // another slot, which may be newer than the snapshot
		s.endCopy()
	}
	if s.copier == nil {
		if !at.copying {
			if b.Held, err = s.settle(ctx, v); b.Held != nil || err != nil {
				return b, err
			}
		}
		if s.copier, err = s.newCopier(ctx, v); err != nil {
			return b, err
		}
	}
	c := s.copier
	c.unused.Reset(streamLimit)
	if !at.copying {
		at = cursor{origin: s.origin(v), seen: c.filter, copying: true, list: c.list, position: position{at: c.slot}}
	}
	if at.list != c.list || at.table < 0 || at.table >= max(len(c.tables), 1) {
		return b, retry.Permanent(fmt.Errorf("%w: they changed during the copy: rewind to the empty cursor for a new copy", ErrTables))
	}
	if at.seen.snapshot.String() != c.snapshot.String() {
		at.seen.repeated = true
	}
	at.seen.until = max(at.seen.until, c.until)
	if len(c.tables) > 0 {
		rows, err := s.fetchTable(ctx, at, limit)
		if err != nil {
			return b, s.copyFailed(ctx, at, err)
		}
		b.Records, b.Bytes, b.More, b.Held = c.changes(rows.Records), rows.Bytes, rows.More, rows.Held
		at.inner = rows.To
		b.Position = "copy of " + c.tables[at.table].label() + " after " + rows.Position
	}
	if !b.More && b.Held == nil {
		if at.table+1 < len(c.tables) {
			at.table, at.inner, b.More = at.table+1, "", true
		} else {
			at = cursor{origin: at.origin, seen: at.seen, position: at.position}
			s.endCopy() // it keeps tables from being altered
		}
	}
	b.To = at.encode()
	return b, nil
}

// fetchTable reads rows of the table at which the cursor stands.
func (s *Source) fetchTable(ctx context.Context, at cursor, limit int) (source.Batch[row.Row], error) {
	c := s.copier
	if c.table != at.table {
		t := c.tables[at.table]
		c.table = at.table
		c.reader = &sqlsource.Table{DB: s.DB, Conn: c.conn, Name: dialect.QuoteAll(postgres.Dialect{}, []string{t.schema, t.name}),
			Key: t.order(), Columns: t.columns, Where: t.condition(), Ceiling: ceiling.None{}, Dialect: postgres.Dialect{},
			MaxBytes: s.MaxBytes, MaxRowBytes: s.MaxRowBytes, Logger: slog.New(slog.DiscardHandler)}
	}
	return c.reader.Fetch(ctx, at.inner, limit)
}

// order returns the columns by which the rows are copied. Rows without a key are read in the order in which they are stored.
func (t table) order() []string {
	switch {
	case len(t.key) > 0:
		return t.key
	case t.partitioned: // each partition has the same places
		return []string{"tableoid", "ctid"}
	}
	return []string{"ctid"}
}

// condition returns which rows belong to the table in the log: not those of tables that inherit from
// it, and only those that the publication has.
func (t table) condition() string {
	switch {
	case t.children && t.filter != "":
		return fmt.Sprintf("t.tableoid = %d AND %s", t.id, t.filter)
	case t.children:
		return fmt.Sprintf("t.tableoid = %d", t.id)
	}
	return t.filter
}

// copyFailed makes the next fetch take another snapshot, if the transaction has ended.
func (s *Source) copyFailed(ctx context.Context, at cursor, err error) error {
	var bad *source.BadRecord
	if errors.As(err, &bad) {
		at.inner = bad.To
		return &source.BadRecord{Key: s.copier.tables[at.table].label() + " " + bad.Key, To: at.encode(), Err: bad.Err}
	}
	if ctx.Err() != nil || ceiling.Exec(ctx, s.copier.conn, "SELECT 1") != nil {
		s.endCopy()
	}
	return err
}

// endCopy ends the copy's transaction, if one is open.
func (s *Source) endCopy() {
	s.copier.close()
	s.copier = nil
}

// changes makes changes of copied rows.
func (c *copier) changes(rows []row.Row) []row.Change {
	t := c.tables[c.table]
	list := make([]row.Change, len(rows))
	var keys []row.Row
	if len(rows) > 0 && len(t.key) > 0 {
		var indexes []int
		for _, name := range t.key {
			indexes = append(indexes, rows[0].Columns().Index(name))
		}
		slices.Sort(indexes) // as in the log
		keys = row.Pick(rows, indexes...)
	}
	for i, r := range rows {
		list[i] = row.Change{Op: row.Upsert, Table: t.label(), Row: r}
		if keys != nil {
			list[i].Key = keys[i]
		}
	}
	return list
}
