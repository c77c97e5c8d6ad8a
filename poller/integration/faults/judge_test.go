//go:build linux

package faults

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// line is a row of the table, and a line of the files.
type line struct {
	ID   int64  `db:"id" json:"id"`
	Note string `db:"note" json:"note"`
}

// verdict compares the delivered lines with the table.
type verdict struct {
	rows, lost, twice, disorder int
	foreign                     int    // delivered and not in the table, or changed
	example                     string // the first fault
}

// judge needs the table in the order of its key.
func judge(table, delivered []line) (v verdict) {
	v.rows = len(table)
	note := func(kind string, l line) {
		if v.example == "" {
			v.example = fmt.Sprintf("row %d %s", l.ID, kind)
		}
	}
	want := map[int64]string{}
	for _, l := range table {
		want[l.ID] = l.Note
	}
	count := map[int64]int{}
	for i, l := range delivered {
		count[l.ID]++
		if text, ok := want[l.ID]; !ok || text != l.Note {
			v.foreign++
			note("is not in the table as it was delivered", l)
		}
		if count[l.ID] > 1 {
			v.twice++
			note("was delivered again", l)
		} else if i > 0 && l.ID < delivered[i-1].ID {
			v.disorder++
			note("follows a later row", l)
		}
	}
	for _, l := range table {
		if count[l.ID] == 0 {
			v.lost++
			note("was not delivered", l)
		}
	}
	return v
}

func TestJudge(t *testing.T) {
	t.Parallel()
	table := []line{{1, "a"}, {2, "b"}, {4, "d"}}
	for _, c := range []struct {
		want      verdict
		delivered []line
	}{
		{verdict{rows: 3}, table},
		{verdict{rows: 3, lost: 1, example: "row 2 was not delivered"}, []line{{1, "a"}, {4, "d"}}},
		{verdict{rows: 3, twice: 1, example: "row 2 was delivered again"}, []line{{1, "a"}, {2, "b"}, {2, "b"}, {4, "d"}}},
		{verdict{rows: 3, disorder: 1, example: "row 2 follows a later row"}, []line{{1, "a"}, {4, "d"}, {2, "b"}}},
		{verdict{rows: 3, foreign: 1, example: "row 3 is not in the table as it was delivered"}, []line{{1, "a"}, {2, "b"}, {3, "c"}, {4, "d"}}},
		{verdict{rows: 3, foreign: 1, example: "row 2 is not in the table as it was delivered"}, []line{{1, "a"}, {2, "x"}, {4, "d"}}},
	} {
		assert.Equal(t, c.want, judge(table, c.delivered))
	}
}

// readFiles returns the lines of all complete files of a copy.
func readFiles(t testing.TB, dir string) (all []line) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	require.NoError(t, err)
	slices.Sort(paths)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		lines := bufio.NewScanner(bytes.NewReader(text))
		lines.Buffer(nil, 64<<20)
		for lines.Scan() {
			var l line
			require.NoError(t, json.Unmarshal(lines.Bytes(), &l), "%s: %s", path, lines.Text())
			all = append(all, l)
		}
		require.NoError(t, lines.Err())
	}
	return all
}

// lastID returns the id of the last whole line that a copy has written, or 0.
func lastID(dir string) int64 {
	paths, _ := filepath.Glob(filepath.Join(dir, "*.jsonl*"))
	slices.Sort(paths)
	for _, path := range slices.Backward(paths) {
		text := tail(path)
		end := bytes.LastIndexByte(text, '\n')
		if end < 0 {
			continue
		}
		text = text[:end]
		var l line
		if json.Unmarshal(text[bytes.LastIndexByte(text, '\n')+1:], &l) == nil {
			return l.ID
		}
	}
	return 0
}

// tail returns the last 8 KiB of a file, or less.
func tail(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	text := make([]byte, min(8<<10, info.Size()))
	n, _ := f.ReadAt(text, info.Size()-int64(len(text)))
	return text[:n]
}
