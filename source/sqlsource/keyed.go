package sqlsource

import (
	"cmp"
	"context"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// Key is the key of a row, as a cursor has it, for a program that keeps keys: printable ASCII, the
// type and the text of each value, and a semicolon after it. Rows of equal keys have equal Keys.
type Key string

// FetchKeyed is Fetch, and also returns the key of each row.
func (t *Table) FetchKeyed(ctx context.Context, after source.Cursor, limit int) (source.Batch[row.Row], []Key, error) {
	var log keyLog
	b, err := fetch(ctx, &t.state, t.query, after, limit, func(p *plan, n int) (records[row.Row], error) {
		return &keyedRecords{rowRecords: rowRecords{row.NewBuilder(p.row, n+1)}, log: &log}, nil
	})
	return b, log.take(len(b.Records)), err
}

// AtKey is At for a Key.
func (t *Table) AtKey(k Key) (source.Cursor, error) {
	q, err := checked(t.query)
	if err != nil {
		return "", err
	}
	key, err := q.parseKey(k)
	if err != nil {
		return "", err
	}
	return encode(q.print, origin{}, key)
}

// FetchRows returns the rows that have one of the keys now, in the order of their keys, and which
// keys these are. The database decides whether two keys are equal: by some collations a key finds a
// row whose key is spelled in another way. A row that is larger than MaxRowBytes is left out. Use it
// for some hundred keys at most. FetchRows waits for a Fetch that is running.
func (t *Table) FetchRows(ctx context.Context, keys []Key) (rows []row.Row, found []Key, err error) {
	s := &t.state
	if _, err := s.begin(ctx, t.query, "", 1); err != nil {
		return nil, nil, err
	}
	var all [][]dialect.Value
	for _, k := range keys {
		key, err := s.query.parseKey(k)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.withPlan(ctx, func(db ceiling.Queryer) error {
		rows, found, s.unproven = nil, nil, true
		where := keyRange{whole: true, fits: true, limit: len(all) + 1, keys: all}
		for more := len(all) > 0; more; {
			into := &keyedRecords{rowRecords: rowRecords{row.NewBuilder(s.plan.row, len(all)+1)}, log: new(keyLog)}
			r := newReader(s.query, db, s.plan, where.after, len(all))
			r.add, r.note = into.add, into.note
			r.bind(into.bind)
			if err := cmp.Or(r.read(ctx, where), r.unread); err != nil {
				return err
			}
			if more = r.more && !r.dropped && r.rows > 0; r.rows > 0 {
				rows, found = append(rows, into.take(r.rows)...), append(found, into.log.take(r.rows)...)
				where.after = values(r.keys.last)
			}
		}
		return nil
	})
	return rows, found, err
}

// Order compares the key of a row, as the database does, with another key, which need not be in the
// table: it is negative if the row comes before it. found is false if no such row exists now.
func (t *Table) Order(ctx context.Context, row, other Key) (order int, found bool, err error) {
	s := &t.state
	if _, err := s.begin(ctx, t.query, "", 1); err != nil {
		return 0, false, err
	}
	a, err := s.query.parseKey(row)
	if err != nil {
		return 0, false, err
	}
	b, err := s.query.parseKey(other)
	if err != nil {
		return 0, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.withPlan(ctx, func(db ceiling.Queryer) (err error) {
		s.unproven = true
		order, found, err = s.query.orderOf(ctx, db, s.plan, a, b)
		return err
	})
	return order, found, err
}

// orderOf asks with one statement for each answer: each is about a row that exists while it runs.
func (q *query) orderOf(ctx context.Context, db ceiling.Queryer, p *plan, row, other []dialect.Value) (int, bool, error) {
	for _, order := range []int{0, 1, -1} {
		args := dialect.Args{Writer: q.sql}
		conds, err := q.equal(p.key, row, &args)
		if err != nil {
			return 0, false, err
		}
		if order == 0 {
			more, err := q.equal(p.key, other, &args)
			if err != nil {
				return 0, false, err
			}
			conds = append(conds, more...)
		} else {
			cond, err := q.sql.Compare(p.key, other, order < 0, &args)
			if err != nil {
				return 0, false, q.wrap(err, nil)
			}
			conds = append(conds, cond)
		}
		found, err := q.some(ctx, db, q.selects(q.settings(), "1", conds, p.key[0].Ref, 1), args.List, row)
		if found || err != nil {
			return order, found, err
		}
	}
	return 0, false, nil
}

func (q *query) parseKey(k Key) (key []dialect.Value, err error) {
	parts := strings.Split(string(k), ";")
	if len(parts) != len(q.key)+1 || parts[len(q.key)] != "" {
		return nil, permanent("a key has %d values, and the table's has %d", len(parts)-1, len(q.key))
	}
	for _, p := range parts[:len(q.key)] {
		v, err := parseValue(p)
		if err != nil {
			return nil, permanent("a key is damaged: %w", err)
		}
		key = append(key, v)
	}
	return key, nil
}

// Compare returns a negative number if the row with the key k comes before the one with another key,
// 0 if the keys are the same, and a positive number otherwise. Of keys that differ in another value
// than an integer or bytes only the database knows the order: then known is false.
func (k Key) Compare(other Key) (order int, known bool) {
	if k == other {
		return 0, true
	}
	for {
		a, restA, okA := strings.Cut(string(k), ";")
		b, restB, okB := strings.Cut(string(other), ";")
		if !okA || !okB || a == "" || b == "" {
			return 0, false
		}
		if a == b {
			k, other = Key(restA), Key(restB)
			continue
		}
		if a[0] != b[0] {
			return 0, false
		}
		switch a[0] {
		case dialect.Int:
			if smaller([]byte(a), []byte(b)) {
				return -1, true
			}
			return 1, true
		case dialect.Bytes:
			return strings.Compare(a, b), true
		}
		return 0, false
	}
}

// String returns the values for messages: 42, "x".
func (k Key) String() string {
	var parts []string
	for _, p := range strings.Split(strings.TrimSuffix(string(k), ";"), ";") {
		v, err := parseValue(p)
		if err != nil {
			return "a damaged key"
		}
		parts = append(parts, v.String())
	}
	return strings.Join(parts, ", ")
}

// keyLog has the keys of the rows of a batch, one after the other.
type keyLog struct {
	text []byte
	ends []int
}

func (l *keyLog) add(key [][]byte) {
	for _, v := range key {
		l.text = append(l.text, v[0])
		if v[0] == dialect.Int || v[0] == dialect.Bytes {
			l.text = append(l.text, v[1:]...)
		} else {
			l.text = escape(l.text, string(v[1:]))
		}
		l.text = append(l.text, ';')
	}
	l.ends = append(l.ends, len(l.text))
}

// take returns the first n keys. They share their memory.
func (l *keyLog) take(n int) []Key {
	text, start := string(l.text), 0
	keys := make([]Key, 0, n)
	for _, end := range l.ends[:n] {
		keys = append(keys, Key(text[start:end]))
		start = end
	}
	return keys
}

// keyedRecords notes the keys of the rows of a batch. Delivered rows that are read again are not noted.
type keyedRecords struct {
	rowRecords
	log   *keyLog
	noted bool
}

func (r *keyedRecords) note(key [][]byte) {
	if !r.noted { // a batch that began again
		r.log.text, r.log.ends = r.log.text[:0], r.log.ends[:0]
	}
	r.noted = true
	r.log.add(key)
}

// KeyOf returns the key of a cursor of this table, "" if it has none.
func (t *Table) KeyOf(c source.Cursor) (Key, error) {
	key, _, err := decode(c, "", len(t.Key))
	var l keyLog
	for _, v := range key {
		l.text = append(append(l.text, v.Tag), escape(nil, v.Text)...)
		l.text = append(l.text, ';')
	}
	return Key(l.text), err
}

// Values returns the values of the key, of the types that a driver returns.
func (k Key) Values() (all []any, err error) {
	for _, p := range strings.Split(strings.TrimSuffix(string(k), ";"), ";") {
		v, err := parseValue(p)
		if err != nil {
			return nil, permanent("a key is damaged: %w", err)
		}
		var x any = v.Text
		switch v.Tag {
		case dialect.Int:
			x, err = v.Integer()
		case dialect.Float:
			x, err = strconv.ParseFloat(v.Text, 64)
		case dialect.Bytes:
			x, err = v.Bytes()
		}
		if err != nil {
			return nil, permanent("a key is damaged: %w", err)
		}
		all = append(all, x)
	}
	return all, nil
}

// Ordered reports whether Compare knows the order of this key and any other of its table.
func (k Key) Ordered() bool {
	for p := range strings.SplitSeq(strings.TrimSuffix(string(k), ";"), ";") {
		if p == "" || p[0] != dialect.Int && p[0] != dialect.Bytes {
			return false
		}
	}
	return true
}
