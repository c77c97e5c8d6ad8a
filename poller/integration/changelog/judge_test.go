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
	state, looked, n := map[string]members{}, map[string]bool{}, 0
	for _, name := range names {
		file, err := os.Open(name)
		require.NoError(t, err)
		defer file.Close()
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 1<<20)
		for ; lines.Scan(); n++ {
			var c line
			require.NoError(t, json.Unmarshal(lines.Bytes(), &c), "%s", lines.Text())
			if fault := apply(state, looked, c); fault != "" {
				t.Fatalf("seed %d: change %d: %s: %s", x.seed, n, fault, lines.Text())
			}
		}
		require.NoError(t, lines.Err())
	}
	plain := lab.Silent(x.db, "items", "id")
	plain.Ceiling = ceiling.None{}
	rows, _ := lab.ReadAll(t, plain, "", 10_000, lab.RowJSON)
	require.Equal(t, len(rows), len(state), "seed %d", x.seed)
	for _, text := range rows {
		present := parse(json.RawMessage(text))
		require.True(t, agree(state[`{"id":`+string(present["id"])+`}`], present), "seed %d: the row %s", x.seed, text)
	}
	t.Logf("%d changes delivered, %d rows left", n, len(rows))
}

// apply applies a change, or says why it does not follow the changes before it. A row that was looked up
// may be newer than the changes that come next, so the first one after it that has an old row, or inserts one, is
// believed. Those after that are judged again.
func apply(state map[string]members, looked map[string]bool, c line) string {
	key, before := string(c.Key), string(c.Key)
	if c.Op == "truncate" {
		clear(state)
		return ""
	}
	if c.Old != nil {
		before = `{"id":` + string(parse(c.Old)["id"]) + `}`
	}
	unknown, seen := looked[before]
	if !seen {
		unknown = looked[""]
	}
	if (c.Op == "upsert" || c.Op == "delete") && len(parse(c.Old)) < 2 { // nothing but the key was recorded
		looked[before], looked[key] = true, true
		delete(state, before)
		delete(state, key)
		if c.Op != "delete" {
			state[key] = parse(c.Row)
			return ""
		}
		looked[""] = true // the row may have been moved to any key, and be gone from there
		for k := range looked {
			if _, ok := state[k]; !ok {
				looked[k] = true
			}
		}
		return ""
	}
	if c.Old != nil {
		if have, ok := state[before]; !unknown && (!ok || !agree(have, parse(c.Old))) {
			return "the row before it was not that"
		}
		delete(state, before)
		looked[before] = false
	}
	if _, ok := state[key]; ok && !looked[key] {
		return "there was a row with its key"
	}
	delete(state, key)
	looked[key] = false
	if c.Op != "delete" {
		state[key] = parse(c.Row)
	}
	return ""
}
