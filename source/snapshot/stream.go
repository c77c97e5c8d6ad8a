package snapshot

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// stream is one statement that returns all rows, in no known order. Its result stays open from Fetch to Fetch.
// A place in it is a number of rows, and a digest of all of them: when the statement runs again, as many rows
// with the same digest are the same rows in the same order.
type stream struct {
	rows    *sql.Rows
	cancel  context.CancelFunc
	restore func()
	builder *row.Builder
	dest    []any
	large   sql.NullInt64 // the size of a row that is larger than MaxRowBytes

	n      int64 // how many rows were passed
	digest digest
	ahead  bool // the next row was read from the result, and not scanned
	ended  bool // no row follows
	heavy  bool // the last batch has a row that is larger than a batch should be
}

// digest is the digest of the rows that were passed.
type digest [12]byte

func (d digest) String() string { return hex.EncodeToString(d[:]) }

// next returns the digest with one more row. A row without columns stands for one that cannot be read.
func (d digest) next(r row.Row) (n digest, err error) {
	h := sha256.New()
	h.Write(d[:])
	if r.Columns() != nil {
		err = r.WriteJSON(h) // in parts: the JSON of a large row would be six times as large
	}
	copy(n[:], h.Sum(nil))
	return n, err
}

// close ends the statement. With abort the rest of its result is not read, and the connection ends.
func (s *stream) close(abort bool) {
	if abort && !s.ended {
		s.cancel()
	}
	s.rows.Close()
	if s.restore != nil && (!abort || s.ended) {
		s.restore()
	}
	s.cancel()
	s.restore, s.ended = nil, true
}

func (t *table) fetchStream(ctx context.Context, at place, limit int) (b source.Batch[row.Row], next place, err error) {
	if at, err = t.seek(ctx, at); err != nil {
		return b, at, err
	}
	s := t.stream
	rows, bytes, failed, err := s.fill(ctx, t, limit)
	if err != nil {
		return b, at, err
	}
	at.rows, at.inner = s.n, s.digest.String()
	if len(rows) == 0 && failed != nil {
		beyond, _ := s.digest.next(row.Row{})
		at.rows, at.inner = s.n+1, beyond.String()
		return b, at, &source.BadRecord{Key: fmt.Sprintf("row %d", at.rows), Err: failed}
	}
	b.Records, b.Bytes, b.More, b.Position = rows, bytes, s.ahead, fmt.Sprintf("row %d", s.n)
	return b, at, nil
}

// fill reads rows up to a limit, or up to one that cannot be read: failed says why.
func (s *stream) fill(ctx context.Context, t *table, limit int) (rows []row.Row, bytes int, failed, err error) {
	stop := context.AfterFunc(ctx, s.cancel)
	defer stop()
	if s.heavy { // the collector would wait until the heap has doubled
		debug.FreeOSMemory()
	}
	defer func() { s.heavy = bytes > 2*t.engine.opts.MaxBytes }()
	for s.ahead && s.builder.Len() < limit && bytes < t.engine.opts.MaxBytes {
		var size int
		if size, failed, err = s.scan(t); failed != nil {
			break
		}
		if err == nil {
			bytes += size
			err = s.advance(ctx)
		}
		if err != nil {
			return nil, 0, nil, t.wrap(err)
		}
	}
	rows = s.builder.Rows()
	for _, r := range rows {
		if s.digest, err = s.digest.next(r); err != nil {
			return nil, 0, nil, t.wrap(err)
		}
	}
	s.n += int64(len(rows))
	return rows, bytes, failed, nil
}

// pass skips a row that cannot be read.
func (s *stream) pass(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.cancel)
	defer stop()
	s.n++
	s.digest, _ = s.digest.next(row.Row{})
	return s.advance(ctx)
}

// scan adds the next row to the builder. failed says why the row cannot be read.
func (s *stream) scan(t *table) (size int, failed, err error) {
	err = s.rows.Scan(s.dest...)
	limit := t.engine.opts.MaxRowBytes
	switch {
	case err != nil && strings.HasPrefix(err.Error(), "sql: Scan error on column index "):
		return 0, permanent("%s: %w", t.Name, errors.Unwrap(err)), nil // package row shows no values
	case err != nil:
		return 0, nil, err
	case s.large.Valid:
		return 0, permanent("%s: the row takes %d bytes, more than MaxRowBytes, which is %d; raise it, or exclude the row by a condition", t.Name, s.large.Int64, limit), nil
	}
	return s.builder.Add(), nil, nil
}

// advance reads the next row from the result.
func (s *stream) advance(ctx context.Context) error {
	if s.ahead = s.rows.Next(); s.ahead {
		return nil
	}
	if err := errors.Join(s.rows.Err(), ctx.Err()); err != nil {
		return err
	}
	s.ended = true
	s.close(false)
	return nil
}

func (t *table) wrap(err error) error { return fmt.Errorf("snapshot: %s: %w", t.Name, err) }

// seek brings the stream to a place. It begins the statement if necessary, and reads the rows before the
// place. If they are not the same as before, the table is read from its first row again.
func (t *table) seek(ctx context.Context, at place) (place, error) {
	for {
		s := t.stream
		if s == nil || s.n > at.rows || s.n == at.rows && !s.stands(at) {
			if err := t.begin(ctx); err != nil {
				return at, err
			}
		}
		same, err := t.skip(ctx, at)
		if err != nil || same {
			return at, err
		}
		at = t.again(ctx, at)
		at.form = streamed
	}
}

// stands reports whether the stream is at a place.
func (s *stream) stands(at place) bool {
	return s.n == at.rows && (s.n == 0 || s.digest.String() == at.inner)
}

// skipped is how many rows are skipped at once.
const skipped = 1024

// skip reads the rows before a place, and reports whether they are the same rows as before.
func (t *table) skip(ctx context.Context, at place) (same bool, err error) {
	s := t.stream
	for s.n < at.rows && s.ahead {
		_, _, failed, err := s.fill(ctx, t, int(min(at.rows-s.n, skipped)))
		if err == nil && failed != nil && s.n < at.rows {
			err = s.pass(ctx)
		}
		if err != nil {
			return false, err
		}
	}
	return s.stands(at), nil
}

// begin runs the statement.
func (t *table) begin(ctx context.Context) (err error) {
	e := t.engine
	t.leave()
	for _, statement := range e.server.stream() {
		if err := exec(ctx, e.session.conn, statement); err != nil {
			return t.wrap(err)
		}
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx)) // for as long as the result is open
	defer context.AfterFunc(ctx, cancel)()
	s := &stream{cancel: cancel}
	parts := t.parts
	if t.Where != "" || t.Select != "" {
		parts = nil
	}
	db, restore, err := e.prepared(own, e.session.conn, true, parts)
	s.restore = restore
	var statement string
	if err == nil {
		statement, err = t.statement(own, db, s)
	}
	if err == nil {
		s.rows, err = db.QueryContext(own, statement) //nolint:rowserrcheck // advance does
	}
	if err != nil {
		if restore != nil {
			restore()
		}
		cancel()
		return t.wrap(err)
	}
	t.stream = s
	return s.advance(ctx)
}

// statement writes the SELECT, and sets what its rows are scanned into.
func (t *table) statement(ctx context.Context, db ceiling.Queryer, s *stream) (string, error) {
	columns, types, err := t.columns(ctx, db)
	if err != nil {
		return "", err
	}
	e := t.engine
	var names, sizes, selected []string
	var kinds []row.Kind
	var known []row.Type
	for _, c := range columns {
		ref := t.ref(c.Name)
		kind, expr := e.sql.Column(c, ref)
		typ, ok := types[c.Name]
		if !ok {
			typ = e.sql.Type(c)
		}
		if size := e.sql.Size(c, ref); size != "" {
			sizes = append(sizes, "COALESCE("+size+", 0)")
		}
		names, kinds, known, selected = append(names, c.Name), append(kinds, kind), append(known, typ), append(selected, cmp.Or(expr, ref))
	}
	if len(sizes) > 0 {
		selected = guard(selected, columns, t, sizes)
		s.dest = append(s.dest, &s.large)
	}
	s.builder = row.NewBuilder(row.NewColumns(names, kinds, known...), firstRows)
	s.dest = append(s.dest, s.builder.Dest()...)
	set := e.sql.Settings(true)
	text := set.Before + "SELECT " + set.Hint + strings.Join(selected, ", ") + " FROM " + t.from()
	conditions := set.Where
	if strings.TrimSpace(t.Where) != "" {
		if conditions != "" {
			conditions += " AND "
		}
		conditions += "(" + t.Where + "\n)" // its last line may end in a comment
	}
	if conditions != "" {
		text += " WHERE " + conditions
	}
	return text, nil
}

// columns returns the columns to read, and what the catalogue says of their types.
func (t *table) columns(ctx context.Context, db ceiling.Queryer) (columns []dialect.Column, types map[string]row.Type, err error) {
	list := t.refs(t.Columns)
	if t.Columns == nil {
		list = "t.*"
	}
	if t.Select == "" {
		if types, err = t.engine.sql.Types(ctx, db, t.parts, t.Columns); err != nil {
			return nil, nil, err
		}
		var invisible []string
		if t.Columns == nil {
			if invisible, err = t.engine.sql.Invisible(ctx, db, t.parts); err != nil {
				return nil, nil, err
			}
		}
		if invisible != nil {
			list += ", " + t.refs(invisible)
		}
	}
	columns, err = t.describeColumns(ctx, db, list)
	return columns, types, err
}

// firstRows is how many rows a batch is expected to have.
const firstRows = 1024

// maxSummed is up to how many large columns each of them is compared with the size of the row.
const maxSummed = 32

// guard returns NULL in place of each large value of a row that is larger than MaxRowBytes, and the row's size in
// front, which is NULL for other rows. With very many columns each value is compared alone: otherwise
// the statement would grow with their square.
func guard(selected []string, columns []dialect.Column, t *table, sizes []string) []string {
	sum, limit := sumOf(sizes), t.engine.opts.MaxRowBytes
	all := []string{fmt.Sprintf("CASE WHEN %s > %d THEN %s END", sum, limit, sum)}
	for i, c := range columns {
		own := t.engine.sql.Size(c, t.ref(c.Name))
		if own == "" {
			continue
		}
		if len(sizes) <= maxSummed {
			own = sum
		}
		selected[i] = fmt.Sprintf("CASE WHEN %s <= %d THEN %s END", own, limit, selected[i])
	}
	return append(all, selected...)
}

// sumOf adds terms in a balanced tree: SQLite refuses one with a depth of more than 1000.
func sumOf(terms []string) string {
	half := len(terms) / 2
	if half < 2 {
		return strings.Join(terms, " + ")
	}
	return "(" + sumOf(terms[:half]) + ") + (" + sumOf(terms[half:]) + ")"
}

// describeColumns returns the columns of a list.
func (t *table) describeColumns(ctx context.Context, db ceiling.Queryer, list string) ([]dialect.Column, error) {
	rows, err := db.QueryContext(ctx, "SELECT "+list+" FROM "+t.from()+" WHERE 1 = 0")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := dialect.ResultColumns(rows)
	return columns, errors.Join(err, rows.Close(), rows.Err())
}

func (t *table) from() string {
	if text := strings.TrimRight(t.Select, "; \t\r\n"); text != "" {
		return "(" + text + "\n) AS t"
	}
	return t.quoted + " AS t"
}

func (t *table) ref(name string) string { return "t." + t.engine.sql.Quote(name) }

func (t *table) refs(names []string) string {
	refs := make([]string, len(names))
	for i, name := range names {
		refs[i] = t.ref(name)
	}
	return strings.Join(refs, ", ")
}
