package xminsource

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// maxList is how many places a list has at most: 12 MB. A pass with more of them scans again.
const maxList = 1 << 20

// place is where a row version is stored.
type place struct {
	table  uint32 // the oid of the table or partition
	block  uint32
	offset uint16
}

func (p place) tid() string { return fmt.Sprintf("(%d,%d)", p.block, p.offset) }

// list has the places of the row versions of a pass, in the order of the key. A version stays at its
// place until the table is rewritten.
type list struct {
	below   uint64 // of the pass
	stamp   stamp
	entries []place
	full    bool // others may follow in the table
	used    bool // a row was read

	from, to       source.Cursor // of the last batch
	fromAt, toAt   int           // where they stand in entries
	fromSet, toSet bool
}

// serves reports whether the list belongs to the pass, has the place of the cursor, and is still valid.
func (l *list) serves(p position, from source.Cursor, now stamp) bool {
	if l == nil || l.below != p.below || l.stamp != now {
		return false
	}
	at := l.place(from)
	return at >= 0 && (at < len(l.entries) || !l.full)
}

// place returns where a cursor stands, -1 if that is not known.
func (l *list) place(c source.Cursor) int {
	switch {
	case l.toSet && c == l.to:
		return l.toAt
	case l.fromSet && c == l.from:
		return l.fromAt
	}
	return -1
}

// reached records where a cursor stands. The one before it is kept, because its batch can be fetched again.
func (l *list) reached(c source.Cursor, at int) {
	if l.toSet && l.to != c {
		l.from, l.fromAt, l.fromSet = l.to, l.toAt, true
	}
	l.to, l.toAt, l.toSet = c, at, true
}

func (l *list) piece(at, limit int) []place { return l.entries[at:min(at+limit, len(l.entries))] }

// after returns where in the list the next batch begins after a fetched one, and whether the pass has ended. The list
// of the first load is nil.
func (l *list) after(f *fetched) (next int, ended bool) {
	switch {
	case l == nil:
		return 0, !f.rows.More
	case f.rows.More: // other rows of the piece follow
		return f.start + len(f.rows.Records), false
	}
	next = min(f.start+f.limit, len(l.entries))
	return next, next == len(l.entries) && !l.full
}

// stuck reports whether a whole list has brought no row, and the next one would begin at the same key.
func (l *list) stuck(next int) bool { return l != nil && l.full && !l.used && next == len(l.entries) }

// pending returns how many versions follow at most, 0 if that is not known.
func (l *list) pending() int64 {
	if l.full {
		return 0
	}
	return int64(len(l.entries) - l.toAt)
}

// scan reads the table and makes the list of the versions after a key. The inner SELECT is not in the order
// of the key, so the table is read in the order of its pages, and only the matching versions are sorted.
func (s *Source) scan(ctx context.Context, db queryer, p position, after []string) (*list, error) {
	g := s.guard
	st, err := s.readState(ctx, db)
	if err == nil {
		err = s.refused(p.follows(st))
	}
	if err != nil {
		return nil, err
	}
	t, err := g.readTree(ctx, db, p)
	if err != nil {
		return nil, err
	}
	where, list := t.condition(p)
	args := dialect.Args{Writer: postgres.Dialect{}}
	where, _ = args.Fill(where, list)
	if after != nil {
		if g.key, err = g.keyTypes(ctx, db); err != nil {
			return nil, err
		}
		where += " AND " + g.follow(after, &args)
	}
	statement := g.scanStatement(where)
	l := &listReader{list: list0(p, stamp{st.history.Boot, t.stamp()})}
	err = ceiling.Each(ctx, db, l.add, statement, args.List...)
	var fault keyFault
	switch {
	case errors.As(err, &fault):
		return nil, s.permanent("%w", fault)
	case err != nil:
		return nil, s.wrap(fmt.Errorf("reading the transaction ids of the table: %w", err))
	}
	if l.full = len(l.entries) > maxList; l.full {
		l.entries = l.entries[:maxList]
	}
	return l.list, nil
}

// scanStatement reads the places. With each place it says whether the key is NULL or, as places are read apart, is that
// of the place before it: a batch with a place of its own would go past the second row.
func (g *guard) scanStatement(where string) string {
	columns, names, null, before := make([]string, len(g.key)), make([]string, len(g.key)), make([]string, len(g.key)), make([]string, len(g.key))
	for i, k := range g.key {
		names[i] = fmt.Sprintf("k%d", i+1)
		columns[i] = k.ref + " AS " + names[i]
		null[i] = names[i] + " IS NULL"
		before[i] = "lag(" + names[i] + ") OVER w"
	}
	key := strings.Join(names, ", ")
	return fmt.Sprintf(`SELECT m.rel::text, m.tid::text, CASE WHEN %s THEN 'null' WHEN ROW(%s) = ROW(%s) THEN 'twice' ELSE '' END
		FROM (SELECT t.tableoid AS rel, t.ctid AS tid, %s FROM %s AS t WHERE %s OFFSET 0) AS m WINDOW w AS (ORDER BY %s) ORDER BY %[7]s LIMIT %d`,
		strings.Join(null, " OR "), key, strings.Join(before, ", "), strings.Join(columns, ", "), g.name, where, key, maxList+1)
}

// keyFault is what is wrong with the key of a row.
type keyFault string

func (f keyFault) Error() string {
	if f == "null" {
		return "a column of the key is NULL in a row, which no cursor can pass; declare it NOT NULL, or choose another key"
	}
	return "two rows have the same key: rows would be lost between batches; choose a key that is unique, also among the tables that inherit from this one"
}

func list0(p position, now stamp) *list { return &list{below: p.below, stamp: now} }

// follow writes the condition that the key of a row comes after another one, whose text is as in
// a cursor.
func (g *guard) follow(after []string, args *dialect.Args) string {
	refs, values := make([]string, len(g.key)), make([]string, len(g.key))
	for i, k := range g.key {
		expr := "%s::text::" + k.typ
		if k.typ == "bytea" {
			expr = "decode(%s::text, 'hex')"
		}
		refs[i], values[i] = k.ref, args.Add(expr, after[i])
	}
	return "(" + strings.Join(refs, ", ") + ") > (" + strings.Join(values, ", ") + ")"
}

// listReader scans the rows of a list.
type listReader struct {
	*list
	rel, tid, fault sql.RawBytes
}

func (l *listReader) add(rows *sql.Rows) error {
	if err := rows.Scan(&l.rel, &l.tid, &l.fault); err != nil {
		return err
	}
	if len(l.fault) > 0 {
		return keyFault(l.fault)
	}
	p, err := parsePlace(l.rel, l.tid)
	l.entries = append(l.entries, p)
	return err
}

func parsePlace(rel, tid []byte) (p place, err error) {
	block, offset, ok := bytes.Cut(bytes.Trim(tid, "()"), []byte(","))
	table, err1 := strconv.ParseUint(string(rel), 10, 32)
	b, err2 := strconv.ParseUint(string(block), 10, 32)
	o, err3 := strconv.ParseUint(string(offset), 10, 16)
	if err := errors.Join(err1, err2, err3); err != nil || !ok {
		return p, fmt.Errorf("the database returned the place %q", tid)
	}
	return place{uint32(table), uint32(b), uint16(o)}, nil
}
