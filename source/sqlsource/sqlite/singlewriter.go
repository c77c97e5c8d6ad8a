package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// SingleWriter is for SQLite, which lets one transaction write at a time. Where
// each write gives a row a key greater than all before it, rows commit in the
// order of their keys, and all that is visible can be read.
//
// That is so for a key that is INTEGER PRIMARY KEY AUTOINCREMENT, for which
// nil as Ceiling chooses it. An id is drawn by the INSERT, which holds the write
// lock by then, and the lock is held until the transaction ends: RESERVED and
// what follows it with a rollback journal, the lock on the WAL's writer with a
// write-ahead log. So whoever draws a greater id began to write after this one had
// committed, and a statement that sees the greater one sees this one. The ids of
// a transaction that was rolled back were seen by nobody, and are drawn again.
// Without AUTOINCREMENT the id after the greatest that is there is drawn: once
// the last row is deleted, a new row gets its id, which was passed.
//
// Chosen by name it takes any other key at your word: that each INSERT, and each
// UPDATE that is to be read, gives it a value greater than all before, drawn by
// the writing transaction after it has begun to write. A version that triggers
// draw from a counter is such a key. With it, each row's latest version is read
// after each change:
//
//	BEGIN IMMEDIATE;
//	ALTER TABLE orders ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
//	UPDATE orders SET version = rowid;
//	CREATE UNIQUE INDEX orders_version ON orders (version);
//	CREATE TABLE orders_counter (last INTEGER NOT NULL);
//	INSERT INTO orders_counter SELECT coalesce(max(version), 0) FROM orders;
//	CREATE TRIGGER orders_added AFTER INSERT ON orders BEGIN
//		UPDATE orders_counter SET last = last + 1;
//		UPDATE orders SET version = (SELECT last FROM orders_counter) WHERE rowid = NEW.rowid;
//	END;
//	CREATE TRIGGER orders_changed AFTER UPDATE ON orders WHEN NEW.version = OLD.version BEGIN
//		UPDATE orders_counter SET last = last + 1;
//		UPDATE orders SET version = (SELECT last FROM orders_counter) WHERE rowid = NEW.rowid;
//	END;
//	COMMIT;
//
// A uuid of version 7, or a time, is none: clients draw it when they like.
//
// What is assumed:
//
//   - Ids are drawn, not given. SQLite lets anybody INSERT an id below the
//     greatest, or UPDATE one: such a row is missed. The audit of package
//     sqlsource finds it.
//   - The locks of the file work. On network file systems they often do not, nor
//     where a process has nolock=1 or immutable=1 in its URI.
//   - The reader does not share its cache with writers and PRAGMA
//     read_uncommitted, which shows it what may be rolled back. That is looked at.
//   - The file is not replaced while it is open. A connection goes on reading the
//     file that it has opened, also when another was moved into its place, and
//     finds nothing new in it, without an error. Stop the reader for that, or let
//     connections end, by SetConnMaxLifetime.
//   - What is committed stays so. With PRAGMA synchronous = OFF, or NORMAL and a
//     write-ahead log, a power loss can take back rows that were read, and their
//     ids are drawn again.
//
// Against ids that are drawn again there is a tripwire: each poll looks at
// sqlite_sequence, and where it stands below the cursor, since the table was made
// anew, an older file was put back, or sqlite_sequence was written to, that is an
// ErrHistory of package sqlsource. Once new rows have passed the cursor it can no
// longer be seen. A table that was emptied keeps its sequence, and is no alarm.
type SingleWriter struct {
	mustSee bool // no word is taken
}

func (SingleWriter) String() string { return "single-writer" }

// Open implements [ceiling.Ceiling].
func (c SingleWriter) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	r := ceiling.Report{Strategy: c.String()}
	if t.SQL.Name() != name {
		r.Add(ceiling.Unsafe, "leave Ceiling nil for the one that fits", "several transactions write at a time on %s: it works on SQLite only", t.SQL.Name())
		return nil, r.Err(t)
	}
	g := &singleWriter{table: t}
	drawn := false
	if t.Name != "" {
		p, err := probeSQLite(ctx, db, t)
		if err != nil {
			return nil, err
		}
		if drawn = p.report(&r, t, c.mustSee); drawn {
			g.look = p.look()
		}
		g.source = p.source
	} else if c.mustSee {
		r.Add(ceiling.Unsafe, "set the Query's field Table", "the table that has the key is not named")
	}
	if err := r.Err(t); err != nil {
		return nil, err
	}
	key := t.Key[0].Name
	r.Guarantee = fmt.Sprintf("every row is read once it is committed, in the order of %q: SQLite lets one transaction write at a time, and AUTOINCREMENT gives each row an id greater than any before", key)
	if !drawn {
		r.Guarantee = fmt.Sprintf("every row is read once it is committed, and its latest version again after each change that draws a new %q, by your word that each write draws one greater than all before: SQLite lets one transaction write at a time", key)
	}
	g.report = r
	return g, nil
}

type singleWriter struct {
	table  ceiling.Table
	report ceiling.Report
	source string // the table's definition
	look   string // the statement for that, and the sequence; "" if there is none
}

func (g *singleWriter) Report() ceiling.Report { return g.report }

// Advance implements [ceiling.Guard].
func (g *singleWriter) Advance(ctx context.Context, db ceiling.Queryer, after []string) (ceiling.Limit, error) {
	l := ceiling.Limit{AsOf: time.Now()}
	if g.look == "" {
		return l, nil
	}
	var source string
	var seq sql.NullInt64
	if err := db.QueryRowContext(ctx, g.look).Scan(&source, &seq); err != nil {
		return l, fmt.Errorf("reading where the sequence is: %w", err)
	}
	if source != g.source {
		return l, fmt.Errorf("the table was altered: %w", ceiling.ErrChanged)
	}
	if after == nil {
		return l, nil
	}
	from, err := strconv.ParseInt(after[0], 10, 64)
	if err != nil {
		return l, errors.New("the cursor's key is no integer")
	}
	if from > 0 && seq.Int64 < from {
		return l, &ceiling.RewoundError{Table: g.table.Label, What: fmt.Sprintf("sqlite_sequence is at %d, below the cursor, and ids that were read will be drawn again: the table was made anew, an older file was put back, or sqlite_sequence was written to", seq.Int64)}
	}
	return l, nil
}
