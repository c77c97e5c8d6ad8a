package pglog_test

import (
	"bufio"
	"cmp"
	"crypto/md5"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// judge applies changes one by one, and finds what is lost, delivered twice, or out of order.
type judge struct {
	live   map[string]value
	faults []string
	count  int
	last   string // the position of the last transaction
	lastTx string
	ended  map[string]bool
}

type value struct {
	n    int
	text string
}

// event is a change as [row.Change] writes it.
type event struct {
	Op, Table, Position, Transaction string
	Key, Row, Old                    map[string]any
	Unchanged                        []string
}

func newJudge() *judge { return &judge{live: map[string]value{}, ended: map[string]bool{}} }

func (j *judge) fault(format string, args ...any) {
	if len(j.faults) < 20 {
		j.faults = append(j.faults, fmt.Sprintf(format, args...))
	}
}

func (j *judge) apply(e event) {
	j.count++
	table := strings.TrimPrefix(e.Table, "public.")
	j.order(e)
	key, before := rowKey(table, e.Key), rowKey(table, e.Old)
	was, known := j.live[cmp.Or(before, key)]
	switch e.Op {
	case "truncate":
		for k := range j.live {
			if strings.HasPrefix(k, table+" ") {
				delete(j.live, k)
			}
		}
		return
	case "delete":
		if !known {
			j.fault("change %d deletes %s, which does not exist", j.count, key)
		}
		delete(j.live, key)
		return
	case "insert":
		if known {
			j.fault("change %d inserts %s again", j.count, key)
		}
	case "update":
		if !known {
			j.fault("change %d updates %s, which does not exist", j.count, key)
		}
		delete(j.live, cmp.Or(before, key))
	}
	now := j.valueOf(table, e, was)
	if e.Op == "update" && (table == "items" || table == "counter") && now.n != was.n+1 {
		j.fault("change %d of %s: version %d follows %d", j.count, key, now.n, was.n)
	}
	j.live[key] = now
}

// order checks that transactions come whole, and in the order of their commits.
func (j *judge) order(e event) {
	if e.Transaction == "" || e.Transaction == j.lastTx {
		return
	}
	if j.ended[e.Transaction] {
		j.fault("change %d: transaction %s goes on after others", j.count, e.Transaction)
	}
	j.ended[e.Transaction] = true
	high, low, _ := strings.Cut(e.Position, "/")
	position := fmt.Sprintf("%08s%08s", high, low)
	if position <= j.last {
		j.fault("change %d: transaction %s at %s comes after %s", j.count, e.Transaction, position, j.last)
	}
	j.last, j.lastTx = position, e.Transaction
}

func rowKey(table string, r map[string]any) string {
	switch {
	case r == nil:
		return ""
	case table == "lines":
		return fmt.Sprint("lines ", r["item"], " ", r["k"])
	}
	return fmt.Sprint(table, " ", r["id"])
}

func (j *judge) valueOf(table string, e event, was value) (v value) {
	n, _ := e.Row["n"].(json.Number)
	fmt.Sscan(n.String(), &v.n) //nolint:errcheck // 0 without a number
	switch table {
	case "items":
		body := was.text
		if !slices.Contains(e.Unchanged, "body") {
			body = fmt.Sprintf("%x", md5.Sum([]byte(fmt.Sprint(e.Row["body"]))))
		}
		v.text = body
	case "scratch", "shape":
		v.text = fmt.Sprint(e.Row["v"])
	}
	return v
}

// state returns the rows in the words of [world.state].
func (j *judge) state() map[string]string {
	all := map[string]string{}
	for key, v := range j.live {
		switch table, _, _ := strings.Cut(key, " "); table {
		case "items":
			all[key] = fmt.Sprint(v.n, " ", v.text)
		case "counter":
			all[key] = fmt.Sprint(v.n)
		default:
			all[key] = v.text
		}
	}
	return all
}

// compare adds a fault for each row that differs from the database's.
func (j *judge) compare(want map[string]string) {
	got := j.state()
	for key, v := range want {
		if g, ok := got[key]; !ok || g != v {
			j.fault("%s is %q in the copy (%v), and %q in the database", key, g, ok, v)
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			j.fault("%s is in the copy, and not in the database", key)
		}
	}
}

// judgeFiles applies the changes in the files of a directory.
func judgeFiles(t *testing.T, dir string) *judge {
	t.Helper()
	j := newJudge()
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	require.NoError(t, err)
	open, err := filepath.Glob(filepath.Join(dir, "*.jsonl.*"))
	require.NoError(t, err)
	files = append(files, open...)
	slices.Sort(files)
	for _, name := range files {
		f, err := os.Open(name)
		require.NoError(t, err)
		d := json.NewDecoder(bufio.NewReaderSize(f, 1<<20))
		d.UseNumber()
		for d.More() {
			var e event
			require.NoError(t, d.Decode(&e))
			j.apply(e)
		}
		f.Close()
	}
	return j
}
