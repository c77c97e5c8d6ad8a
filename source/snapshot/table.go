package snapshot

import (
	"context"
	"errors"
	"log/slog"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// table is a table to read, and what the open transaction knows about it.
type table struct {
	Table
	engine *engine
	parts  []string
	quoted string

	touch        bool     // the lock of its first statement must be taken at the start
	shown        string   // its name for changes
	key          []string // the columns that tell rows apart; nil: none are known
	estimate     int64    // of the number of rows; 0: not known
	inconsistent string   // the engine, if it has no transactions

	opened bool
	source *sqlsource.Table // reads by the key; nil: the rows are streamed
	stream *stream          // nil: not begun
}

// reset forgets a transaction.
func (t *table) reset() {
	if t.stream != nil {
		t.stream.close(true)
	}
	t.key, t.estimate, t.inconsistent, t.opened, t.source, t.stream = t.Key, 0, "", false, nil, nil
}

// leave ends the statement of the table's stream, and keeps the connection.
func (t *table) leave() {
	if t.stream != nil {
		t.stream.close(false)
		t.stream = nil
	}
}

// fetch reads the rows after a place, and returns the place after them, or after the record of a
// [*source.BadRecord].
func (t *table) fetch(ctx context.Context, at place, limit int) (source.Batch[row.Row], place, error) {
	for _, other := range t.engine.tables { // the connection runs one statement at a time
		if other != t {
			other.leave()
		}
	}
	if !t.opened {
		if err := t.open(ctx); err != nil {
			return source.Batch[row.Row]{}, at, err
		}
		t.opened = true
	}
	form := byte(streamed)
	if t.source != nil {
		form = keyed
	}
	if at.form != start && at.form != form { // the key was dropped or added since
		at = t.again(ctx, at)
	}
	at.form = form
	if t.source == nil {
		b, next, err := t.fetchStream(ctx, at, limit)
		if err != nil && !errors.As(err, new(*source.BadRecord)) {
			t.leave()
		}
		return b, next, err
	}
	b, err := t.source.Fetch(ctx, source.Cursor(at.inner), limit)
	var bad *source.BadRecord
	to := b.To
	if errors.As(err, &bad) {
		to = bad.To
		at.rows++
	}
	at.rows += int64(len(b.Records))
	at.inner = string(to)
	if _, long := at.encode(); long != nil { // without the history there is room
		if short, failed := t.source.Adopt(to); failed == nil {
			at.inner = string(short)
		}
	}
	return b, at, err
}

// again returns the place before the first row, to which reading goes back.
func (t *table) again(ctx context.Context, at place) place {
	t.engine.opts.Logger.WarnContext(ctx, "table read again", "table", t.Name, "rows", at.rows)
	return at.at(t.Name)
}

// open decides how the rows are read.
func (t *table) open(ctx context.Context) error {
	e := t.engine
	if t.Select != "" || t.key == nil {
		return nil
	}
	if t.Key == nil {
		fits := true
		err := e.use(ctx, e.session.conn, func(db ceiling.Queryer) error {
			columns, err := t.describeColumns(ctx, db, t.refs(t.key))
			for i := 0; i < len(columns) && err == nil; i++ {
				_, refused := e.sql.Key(ctx, db, columns[i], t.ref(columns[i].Name), true)
				fits = fits && refused == nil
			}
			return err
		})
		if err != nil {
			return wrap(err)
		}
		if !fits { // such as ENUM in MySQL
			return nil
		}
	}
	t.source = &sqlsource.Table{DB: e.opts.DB, Conn: e.session.conn, Name: t.Name, Key: t.key, Columns: t.Columns, Where: t.Where,
		MaxBytes: e.opts.MaxBytes, MaxRowBytes: e.opts.MaxRowBytes, Ceiling: moment{e.guarantee.Text}, Dialect: e.sql,
		Logger: slog.New(warnings{e.opts.Logger.Handler()})}
	return nil
}

// moment is the ceiling of a snapshot: no row can be added to it.
type moment struct{ guarantee string }

func (moment) String() string { return "snapshot" }

func (m moment) Open(context.Context, ceiling.Queryer, ceiling.Table) (ceiling.Guard, error) {
	return m, nil
}

func (m moment) Report() ceiling.Report {
	return ceiling.Report{Strategy: m.String(), Guarantee: m.guarantee, Indexed: true}
}

func (moment) Advance(context.Context, ceiling.Queryer, []string) (ceiling.Limit, error) {
	return ceiling.Limit{}, nil
}

// warnings leaves out what each of many tables would log.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}
