package pglog

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// relation collects the rows of one table, with the columns that it had at one time.
type relation struct {
	*shape
	all  *row.Builder // rows with all columns
	keys *row.Builder // rows with the columns of the key
	cell []cell       // of the row being read
	old  []cell
	text []byte // a value being converted
}

// shape is what is known of a table's columns. It is immutable.
type shape struct {
	layout
	table   string // its name in changes
	columns *row.Columns
	key     []int // the columns of the key, none if the table has no key
	ofKey   *row.Columns
	convert []conversion
	found   time.Time // when the catalogue was asked
}

// conversion says how the text of a value becomes what a driver would return.
type conversion uint8

const (
	plain conversion = iota
	boolean
	bytea
	double
	instant
)

var conversions = map[string]conversion{"BOOL": boolean, "BYTEA": bytea, "FLOAT8": double, "TIMESTAMPTZ": instant}

// newShape finds the kinds and types of the columns that a table has in the log. The log has only
// the ids of types: those of domains are replaced by their bases. A type that was dropped since is text.
func newShape(ctx context.Context, db ceiling.Queryer, l layout) (*shape, error) {
	s := &shape{layout: l, table: tableName(l.schema, l.name), found: time.Now()}
	var names, keys []string
	ids := make([]string, len(l.columns))
	for i, c := range l.columns {
		names, ids[i] = append(names, c.name), strconv.FormatUint(uint64(c.typ), 10)
		if c.key && l.identity != 'f' {
			s.key = append(s.key, i)
		}
	}
	base := map[uint32]string{}
	err := ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var id int64
		var name string
		err := rows.Scan(&id, &name)
		base[uint32(id)] = name
		return err
	}, baseTypes, "{"+strings.Join(ids, ",")+"}")
	if err != nil {
		return nil, fmt.Errorf("reading the types of columns: %w", err)
	}
	now, err := s.present(ctx, db)
	if err != nil {
		return nil, err
	}
	kinds, types := make([]row.Kind, len(names)), make([]row.Type, len(names))
	s.convert = make([]conversion, len(names))
	for i, c := range l.columns {
		kinds[i], _ = postgres.Dialect{}.Column(dialect.Column{Type: base[c.typ]}, "")
		s.convert[i] = conversions[base[c.typ]]
		var same bool
		if types[i], same = now[c]; !same {
			types[i] = postgres.Dialect{}.Type(dialect.Column{Type: base[c.typ]})
		}
	}
	s.columns = row.NewColumns(names, kinds, types...)
	var keyKinds []row.Kind
	var keyTypes []row.Type
	for _, i := range s.key {
		keys, keyKinds, keyTypes = append(keys, names[i]), append(keyKinds, kinds[i]), append(keyTypes, types[i])
	}
	s.ofKey = row.NewColumns(keys, keyKinds, keyTypes...)
	return s, nil
}

const baseTypes = `WITH RECURSIVE base(id, type) AS (
		SELECT id, id FROM unnest($1::oid[]) AS id
		UNION SELECT b.id, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype = 'd'
	) SELECT b.id::bigint, CASE WHEN t.oid::bigint < 16384 THEN upper(t.typname::text) ELSE '' END
	FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype <> 'd'`

// present returns the types of those columns that the table still has. With REPLICA IDENTITY FULL
// the log does not name the key: then it is the present primary key.
func (s *shape) present(ctx context.Context, db ceiling.Queryer) (map[column]row.Type, error) {
	all, err := postgres.Dialect{}.Types(ctx, db, []string{s.schema, s.name}, nil)
	if err != nil {
		return nil, fmt.Errorf("reading the types of columns: %w", err)
	}
	now := map[column]row.Type{}
	primary := map[string]bool{}
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var name string
		var typ int64
		var mod int32
		var key bool
		err := rows.Scan(&name, &typ, &mod, &key)
		for _, replica := range []bool{true, false} {
			now[column{name: name, key: replica, typ: uint32(typ), mod: mod}] = all[name]
		}
		primary[name] = key
		return err
	}, `SELECT a.attname::text, a.atttypid::bigint, a.atttypmod, COALESCE(a.attnum = ANY (i.indkey), false) FROM pg_catalog.pg_attribute a
		LEFT JOIN pg_catalog.pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
		WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped`, int64(s.id))
	if err != nil {
		return nil, fmt.Errorf("reading the columns: %w", err)
	}
	if s.identity == 'f' {
		for i, c := range s.layout.columns {
			if primary[c.name] {
				s.key = append(s.key, i)
			}
			delete(primary, c.name)
		}
		for _, missing := range primary {
			if missing { // a column of the key did not exist yet
				s.key = nil
			}
		}
	}
	return now, nil
}

func newRelation(s *shape) *relation {
	return &relation{shape: s, all: row.NewBuilder(s.columns, rowsHint), keys: row.NewBuilder(s.ofKey, rowsHint)}
}

// rowsHint is the usual number of rows of one table in a batch.
const rowsHint = 5000

// entry is a change whose rows are still in the builders. An index of -1 means no row.
type entry struct {
	*relation
	op            row.Op
	row, old, key int
	oldKey        bool // old has the columns of the key alone
	tx            *transaction
}

// transaction is the transaction whose changes are being read.
type transaction struct {
	begin
	time     time.Time // of the commit
	id       string    // of the transaction, as text
	position string    // of its commit record, as text
	changes  int       // that have come
	skip     int       // how many of them are delivered already
	filtered bool      // the copy contains it
	repeated bool      // the copy may contain it
}

// add reads the rows of a message into the builders. It returns their size in memory.
func (r *relation) add(m *message) (e entry, size int, err error) {
	e = entry{relation: r, op: m.op(), row: -1, old: -1, key: -1, tx: m.tx}
	hasNew, hasOld := false, false
	if hasNew, hasOld, e.oldKey, err = r.read(m); err != nil {
		return e, 0, err
	}
	if e.oldKey {
		for _, i := range r.key {
			if r.old[i].kind != cellText { // a partition was altered that was read before
				return e, 0, retry.Permanent(fmt.Errorf("%w: the log has a change of %s without its key: a partition has, or had at the time, another replica identity. The row that changed is not known: ALTER TABLE ... REPLICA IDENTITY FULL for each partition, drop the slot, and rewind to the empty cursor for a new copy", ErrIdentity, r.table))
			}
		}
	}
	size = int(unsafe.Sizeof(row.Change{}))
	put := func(b *row.Builder, cells []cell, columns []int) int {
		if err == nil {
			err = r.scan(b, cells, columns)
		}
		if err != nil {
			return -1
		}
		size += b.Add()
		return b.Len() - 1
	}
	if hasNew {
		for i := range r.cell {
			if hasOld && r.cell[i].kind == cellUnchanged && (!e.oldKey || r.layout.columns[i].key) {
				r.cell[i] = r.old[i]
			}
		}
		e.row = put(r.all, r.cell, nil)
	}
	current := r.cell
	if !hasNew {
		current = r.old
	}
	if len(r.key) > 0 {
		e.key = put(r.keys, current, r.key)
	}
	switch {
	case !hasOld:
	case e.oldKey && hasNew:
		e.old = put(r.keys, r.old, r.key)
	case e.oldKey:
		e.old = e.key
	default:
		e.old = put(r.all, r.old, nil)
	}
	return e, size, err
}

// read splits a message into r.cell, the new row, and r.old, the old row. oldKey says that the old row has
// values of the key alone.
func (r *relation) read(m *message) (hasNew, hasOld, oldKey bool, err error) {
	d := decoder{b: m.body}
	for len(d.b) > 0 && d.err == nil {
		switch part := d.u8(); part {
		case 'N':
			r.cell, hasNew = d.tuple(r.cell[:0], len(r.layout.columns)), true
		case 'K', 'O':
			r.old, hasOld = d.tuple(r.old[:0], len(r.layout.columns)), true
			oldKey = part == 'K'
		default:
			return false, false, false, fmt.Errorf("a change in the log has the unknown part %q", part)
		}
	}
	if d.err == nil && (hasNew == (m.kind == msgDelete) || !hasOld && m.kind == msgDelete) {
		d.err = errors.New("a change in the log has not the parts that it must have")
	}
	return hasNew, hasOld, oldKey, d.err
}

// op returns what a message with rows did.
func (m *message) op() row.Op {
	switch {
	case m.kind == msgDelete:
		return row.Delete
	case m.tx.repeated:
		return row.Upsert
	case m.kind == msgInsert:
		return row.Insert
	}
	return row.Update
}

// scan reads the cells of some columns, nil for all, into a builder.
func (r *relation) scan(b *row.Builder, cells []cell, columns []int) error {
	dest := b.Dest()
	for i := range dest {
		at := i
		if columns != nil {
			at = columns[i]
		}
		var v any // a value that is not text
		var err error
		switch c, to := cells[at], r.convert[at]; {
		case c.kind == cellNull:
		case c.kind == cellUnchanged:
			v = row.Unchanged{}
		case to == boolean:
			v = string(c.text) == "t"
		case to == double:
			if v, err = strconv.ParseFloat(string(c.text), 64); err != nil {
				return errors.New("the log has a floating-point number in an unknown form")
			}
		default:
			text, err := r.textOf(c.text, to)
			if err == nil {
				err = b.ScanText(i, text)
			}
			if err != nil {
				return err
			}
			continue
		}
		if err = dest[i].(sql.Scanner).Scan(v); err != nil {
			return err
		}
	}
	return nil
}

// textOf returns the bytes that a driver would return for a value, so that it gets the same text.
func (r *relation) textOf(text []byte, to conversion) ([]byte, error) {
	switch to {
	case bytea:
		digits, ok := bytes.CutPrefix(text, []byte(`\x`))
		var err error
		if r.text, err = hex.AppendDecode(r.text[:0], digits); err != nil || !ok {
			return nil, errors.New("the log has binary data that is not in hexadecimal form")
		}
		return r.text, nil
	case instant:
		r.text = appendInstant(r.text[:0], text)
		return r.text, nil
	}
	return text, nil
}

// appendInstant appends a point in time, which Postgres writes as 2026-01-02 03:04:05.6+00 in the
// time zone UTC, in the form of [row.TimestampTZ].
func appendInstant(dst, text []byte) []byte {
	day, clock, ok := bytes.Cut(text, []byte{' '})
	clock, era := bytes.CutSuffix(clock, []byte(" BC"))
	clock, utc := bytes.CutSuffix(clock, []byte("+00"))
	if !ok || !utc {
		return append(dst, text...)
	}
	dst = append(append(append(append(dst, day...), 'T'), clock...), 'Z')
	if era {
		dst = append(dst, " BC"...)
	}
	return dst
}

// changes makes the changes of a batch.
func changes(entries []entry) []row.Change {
	type rows struct{ all, keys []row.Row }
	built := map[*relation]rows{}
	var of rows
	at := func(rows []row.Row, i int) row.Row {
		if i < 0 {
			return row.Row{}
		}
		return rows[i]
	}
	list := make([]row.Change, len(entries))
	for i, e := range entries {
		if i == 0 || e.relation != entries[i-1].relation {
			var known bool
			if of, known = built[e.relation]; !known {
				of = rows{e.all.Rows(), e.keys.Rows()}
				built[e.relation] = of
			}
		}
		old := of.all
		if e.oldKey {
			old = of.keys
		}
		list[i] = row.Change{Op: e.op, Table: e.table, At: e.tx.time, Position: e.tx.position, Transaction: e.tx.id,
			Row: at(of.all, e.row), Key: at(of.keys, e.key), Old: at(old, e.old)}
	}
	return list
}

// tableName writes a name with its schema, in the form of [sqlsource.Table.Name].
func tableName(schema, name string) string {
	quote := func(part string) string {
		if strings.ContainsAny(part, `."`) {
			return postgres.Dialect{}.Quote(part)
		}
		return part
	}
	return quote(schema) + "." + quote(name)
}
