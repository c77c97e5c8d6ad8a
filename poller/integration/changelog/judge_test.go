package changelog

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// line is a change in the files.
type line struct {
	Op            string
	Key, Row, Old json.RawMessage
}

// members are the columns of a row, as JSON.
type members map[string]json.RawMessage

func parse(text json.RawMessage) (m members) {
	_ = json.Unmarshal(text, &m)
	return m
}

// agree reports whether two rows have the same values in the columns that both have.
func agree(a, b members) bool {
	for name, value := range a {
		if other, ok := b[name]; ok && string(other) != string(value) {
			return false
		}
	}
	return len(a) > 0 && len(b) > 0
}

// judge applies the changes in the files. Each must find its row in the state before the change, so none is lost,
// doubled or out of order, and the result must equal the table.
func (x *torture) judge(dir string) {
	t := x.t
	names, err := filepath.Glob(filepath.Join(dir, "*.jsonl*"))
	require.NoError(t, err)
	slices.Sort(names)
	copied, n := newTarget(), 0
	for _, name := range names {
		file, err := os.Open(name)
		require.NoError(t, err)
		defer file.Close()
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 1<<20)
		for ; lines.Scan(); n++ {
			var c line
			require.NoError(t, json.Unmarshal(lines.Bytes(), &c), "%s", lines.Text())
			if fault := copied.apply(c); fault != "" {
				t.Fatalf("seed %d: change %d: %s: %s", x.seed, n, fault, lines.Text())
			}
		}
		require.NoError(t, lines.Err())
	}
	plain := lab.Silent(x.db, "items", "id")
	plain.Ceiling = ceiling.None{}
	rows, _ := lab.ReadAll(t, plain, "", 10_000, lab.RowJSON)
	require.Equal(t, len(rows), len(copied.rows), "seed %d", x.seed)
	for _, text := range rows {
		present := parse(json.RawMessage(text))
		require.True(t, agree(copied.rows[`{"id":`+string(present["id"])+`}`], present), "seed %d: the row %s", x.seed, text)
	}
	t.Logf("%d changes delivered, %d rows left", n, len(rows))
}

// target has the rows after the changes that were applied.
type target struct {
	rows   map[string]members
	looked map[string]bool // the row may be newer than the changes that come next

	// A deletion that names a key only may be of a row that was moved, to any key that is not in rows. Which of
	// those are known not to exist counts from then on.
	deletions int
	known     map[string]int // deletions, when the key was known
}

func newTarget() *target {
	return &target{rows: map[string]members{}, looked: map[string]bool{}, known: map[string]int{}}
}

// unknown reports whether nothing is known of a key.
func (r *target) unknown(key string) bool {
	_, ok := r.rows[key]
	return r.looked[key] || !ok && r.known[key] < r.deletions
}

// gone notes that no row has a key.
func (r *target) gone(key string) {
	delete(r.rows, key)
	delete(r.looked, key)
	r.known[key] = r.deletions
}

// apply applies a change, or says why it does not follow the changes before it. A row that was looked up
// may be newer than the changes that come next, so the first one after it that has an old row, or inserts one, is
// believed. Those after that are judged again.
func (r *target) apply(c line) string {
	key, before := string(c.Key), string(c.Key)
	if c.Op == "truncate" {
		for key := range r.rows {
			r.gone(key)
		}
		return ""
	}
	if c.Old != nil {
		before = `{"id":` + string(parse(c.Old)["id"]) + `}`
	}
	if (c.Op == "upsert" || c.Op == "delete") && len(parse(c.Old)) < 2 { // nothing but the key was recorded
		r.gone(before)
		r.gone(key)
		r.looked[before], r.looked[key] = true, true
		if c.Op == "delete" {
			r.deletions++
		} else {
			r.rows[key] = parse(c.Row)
		}
		return ""
	}
	if c.Old != nil {
		if have, ok := r.rows[before]; !r.unknown(before) && (!ok || !agree(have, parse(c.Old))) {
			return "the row before it was not that"
		}
		r.gone(before)
	}
	if _, ok := r.rows[key]; ok && !r.looked[key] {
		return "there was a row with its key"
	}
	r.gone(key)
	if c.Op != "delete" {
		r.rows[key] = parse(c.Row)
	}
	return ""
}
