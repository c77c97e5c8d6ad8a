package diffsource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

var errTable = errors.New("the database failed")

// fakeTable is a table of keys and texts. Its keys are integers, or texts whose order only it knows, and in
// which two keys can be equal, as "a1" and "A1".
type fakeTable struct {
	rng       *rand.Rand
	note      func(string, ...any)
	rows      map[sqlsource.Key]string
	texts     bool
	fresh     bool         // no value comes twice, and the order does not change
	few       bool         // few keys with few values, so that changes are often taken back
	order     map[byte]int // of the letters
	reordered bool         // the order has changed
	versions  int

	fails float64
	busy  int // changes during a pass: 0 none, 2 often
	still bool
}

const letters = "abcdef"

func newFakeTable(rng *rand.Rand, note func(string, ...any)) *fakeTable {
	t := &fakeTable{rng: rng, note: note, rows: map[sqlsource.Key]string{}, texts: rng.IntN(2) == 0, few: rng.IntN(4) == 0}
	t.shuffle()
	for range rng.IntN(20) {
		t.set()
	}
	return t
}

func (t *fakeTable) shuffle() {
	t.order = map[byte]int{}
	for i, n := range t.rng.Perm(len(letters)) {
		t.order[letters[i]] = n
	}
}

func (t *fakeTable) key() sqlsource.Key {
	if t.few && !t.texts {
		return sqlsource.Key(fmt.Sprintf("i%d;", t.rng.IntN(4)))
	}
	if !t.texts {
		return sqlsource.Key(fmt.Sprintf("i%d;", t.rng.IntN(30)-10))
	}
	text := string(letters[t.rng.IntN(len(letters))]) + fmt.Sprint(t.rng.IntN(5))
	if t.few {
		text = text[:1] + "0"
	}
	if t.rng.IntN(4) == 0 {
		text = strings.ToUpper(text)
	}
	return sqlsource.Key("s" + text + ";")
}

// set inserts or updates a row. Of two keys that are equal in the order there can be only one.
func (t *fakeTable) set() {
	k := t.key()
	for _, other := range t.keys() {
		if other != k && t.compare(other, k) == 0 {
			delete(t.rows, other)
		}
	}
	t.versions++
	t.rows[k] = fmt.Sprintf("v%d", t.versions)
	switch t.rng.IntN(20) {
	case 0:
		t.rows[k] = fmt.Sprintf("bad%d", t.versions)
	case 1: // as before
		if !t.reordered && !t.fresh {
			t.rows[k] = "same"
		}
	}
	if t.few && !t.reordered {
		t.rows[k] = fmt.Sprint("v", t.rng.IntN(2))
	}
}

func (t *fakeTable) change() {
	for range 1 + t.rng.IntN(4) {
		keys := t.keys()
		switch n := t.rng.IntN(40); {
		case n < 20 || len(keys) == 0:
			t.set()
		case n < 38:
			delete(t.rows, keys[t.rng.IntN(len(keys))])
		case n == 38:
			clear(t.rows)
		case t.texts && !t.fresh:
			t.shuffle()
			t.reordered = true
			t.note("the order changes")
		}
	}
	t.note("the table changes: %v", t.keys())
}

// keys returns the keys in the table's order.
func (t *fakeTable) keys() []sqlsource.Key {
	return slices.SortedFunc(maps.Keys(t.rows), func(a, b sqlsource.Key) int { return cmp.Or(t.compare(a, b), cmp.Compare(a, b)) })
}

func (t *fakeTable) compare(a, b sqlsource.Key) int {
	if order, known := a.Compare(b); known {
		return order
	}
	x, y := strings.ToLower(string(a)), strings.ToLower(string(b))
	return cmp.Or(cmp.Compare(t.order[x[1]], t.order[y[1]]), cmp.Compare(x, y))
}

func (t *fakeTable) call() error {
	if t.rng.Float64() < t.fails {
		return errTable
	}
	if !t.still && t.rng.IntN(6) < t.busy {
		t.change()
	}
	return nil
}

var fakeColumns = row.NewColumns([]string{"k", "v"}, nil)

func (t *fakeTable) row(k sqlsource.Key) row.Row {
	values, err := k.Values()
	if err != nil {
		panic(err)
	}
	r, err := row.Of(fakeColumns, values[0], t.rows[k])
	if err != nil {
		panic(err)
	}
	return r
}

// keyOf returns the key of a row that has it first.
func keyOf(r row.Row) sqlsource.Key {
	return keyOfText(r.Text(0))
}

func keyOfText(text string) sqlsource.Key {
	text = strings.Trim(text, `"`)
	if text[0] == '-' || text[0] <= '9' {
		return sqlsource.Key("i" + text + ";")
	}
	return sqlsource.Key("s" + text + ";")
}

func (t *fakeTable) FetchKeyed(_ context.Context, after source.Cursor, limit int) (b source.Batch[row.Row], keys []sqlsource.Key, err error) {
	if err := t.call(); err != nil {
		return b, nil, err
	}
	for _, k := range t.keys() {
		if after != "" && t.compare(k, sqlsource.Key(after)) <= 0 {
			continue
		}
		if bad := strings.HasPrefix(t.rows[k], "bad"); len(keys) == limit || bad && len(keys) > 0 {
			b.More = true
			break
		} else if bad {
			return b, nil, &source.BadRecord{Key: k.String(), To: source.Cursor(k), Err: errors.New("it is large")}
		}
		b.Records, keys = append(b.Records, t.row(k)), append(keys, k)
	}
	b.Bytes = 10 * len(keys)
	return b, keys, nil
}

func (t *fakeTable) FetchRows(_ context.Context, keys []sqlsource.Key) (rows []row.Row, found []sqlsource.Key, err error) {
	if err := t.call(); err != nil {
		return nil, nil, err
	}
	return t.find(keys, false)
}

// find returns rows by their keys. Those that cannot be read are left out unless bad.
func (t *fakeTable) find(keys []sqlsource.Key, bad bool) (rows []row.Row, found []sqlsource.Key, err error) {
	for _, k := range t.keys() {
		wanted := slices.ContainsFunc(keys, func(other sqlsource.Key) bool { return t.compare(k, other) == 0 })
		if wanted && (bad || !strings.HasPrefix(t.rows[k], "bad")) {
			rows, found = append(rows, t.row(k)), append(found, k)
		}
	}
	return rows, found, nil
}

// fakeKeys is a fakeTable with the columns of the key alone.
type fakeKeys struct{ *fakeTable }

func (t fakeKeys) FetchRows(_ context.Context, keys []sqlsource.Key) ([]row.Row, []sqlsource.Key, error) {
	if err := t.call(); err != nil {
		return nil, nil, err
	}
	return t.find(keys, true)
}

func (t *fakeTable) Order(_ context.Context, k, other sqlsource.Key) (order int, found bool, err error) {
	if err := t.call(); err != nil {
		return 0, false, err
	}
	for _, r := range t.keys() {
		if t.compare(r, k) == 0 {
			return t.compare(k, other), true, nil
		}
	}
	return 0, false, nil
}

func (t *fakeTable) AtKey(k sqlsource.Key) (source.Cursor, error) { return source.Cursor(k), nil }

func (t *fakeTable) KeyOf(c source.Cursor) (sqlsource.Key, error) { return sqlsource.Key(c), nil }
