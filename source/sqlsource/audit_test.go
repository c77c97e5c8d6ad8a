package sqlsource

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// A cursor counts the late rows that were delivered, and one that does not is
// written as before.
func TestCursorCountsLateRows(t *testing.T) {
	t.Parallel()
	print := fingerprint("t")
	for text, p := range map[string]past{
		"":         {},
		"1/2@7":    {values: []string{"1", "2"}, mark: 7},
		"1/2@7+3":  {values: []string{"1", "2"}, mark: 7, late: 3},
		"@0+1":     {values: []string{""}, late: 1},
		"a+b@7+12": {values: []string{"a+b"}, mark: 7, late: 12},
	} {
		require.Equal(t, text, p.String())
		c, err := encode(print, p, intKey(42))
		require.NoError(t, err)
		key, got, err := decode(c, print, 1)
		require.NoError(t, err)
		require.Equal(t, intKey(42), key)
		require.Equal(t, p, got)
	}
	for _, bad := range []string{"@7+", "@7+0", "@7+01", "@7+-1", "@7+x", "@7+1+1", "@+1", "+1", "@0"} {
		_, err := parsePast(bad)
		require.Error(t, err, bad)
	}
}

func TestKeyConditions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dialect     Dialect
		types       []string
		upTo, anyOf string
		args        []any
	}{
		{Postgres, []string{"INT8", "TEXT"}, `(t."a", t."b") <= ($1, $2)`,
			`((t."a" = ? AND t."b" = ?) OR (t."a" = ? AND t."b" = ?) OR (t."a" = ? AND t."b" = ?) OR (t."a" = ? AND t."b" = ?))`,
			[]any{"1", "x", "2", "y", "3", "z", "3", "z"}},
		{Postgres, []string{"INT8"}, `t."a" <= $1`, `((t."a" = ?) OR (t."a" = ?) OR (t."a" = ?) OR (t."a" = ?))`, []any{"1", "2", "3", "3"}},
		{MySQL, []string{"BIGINT", "VARBINARY"}, "t.`a` <= ? AND (t.`a` < ? OR (t.`a` = ? AND t.`b` <= UNHEX(?)))",
			"((t.`a` = ? AND t.`b` = UNHEX(?)) OR (t.`a` = ? AND t.`b` = UNHEX(?)) OR (t.`a` = ? AND t.`b` = UNHEX(?)) OR (t.`a` = ? AND t.`b` = UNHEX(?)))",
			[]any{int64(1), "78", int64(2), "79", int64(3), "7a", int64(3), "7a"}},
		{MySQL, []string{"BIGINT"}, "t.`a` <= ?", "((t.`a` = ?) OR (t.`a` = ?) OR (t.`a` = ?) OR (t.`a` = ?))", []any{int64(1), int64(2), int64(3), int64(3)}},
		{SQLite, []string{"INTEGER", "TEXT"}, `(t."a", t."b") <= (?, ?)`,
			`((t."a" = ? AND t."b" = ?) OR (t."a" = ? AND t."b" = ?) OR (t."a" = ? AND t."b" = ?) OR (t."a" = ? AND t."b" = ?))`,
			[]any{int64(1), "x", int64(2), "y", int64(3), "z", int64(3), "z"}},
	} {
		names := []string{"a", "b"}[:len(c.types)]
		q, err := (&Table{DB: open(t, &fake{}), Name: "t", Key: names, Dialect: c.dialect}).query()
		require.NoError(t, err)
		p := &plan{}
		for i, name := range names {
			k, err := q.sql.key(t.Context(), nil, column{name: name, typ: c.types[i]}, q.ref(name))
			require.NoError(t, err)
			p.key = append(p.key, k)
		}
		var rows []pending
		for i, text := range []string{"x", "y", "z"} {
			rows = append(rows, pending{keyRead: keyRead{values: []value{{tagInt, fmt.Sprint(i + 1)}, {tagText, text}}[:len(names)]}})
		}
		bound := args{numbered: c.dialect == Postgres}
		got, err := q.sql.upTo(p.key, rows[0].values, &bound)
		require.NoError(t, err)
		require.Equal(t, c.upTo, got)
		got, list, err := anyOf(p, rows)
		require.NoError(t, err)
		require.Equal(t, c.anyOf, got)
		require.Equal(t, c.args, list)
	}
}

// The report says what was seen and no more.
func TestAuditReportText(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	clean := Reading{Rows: 5000}
	late := Reading{Rows: 5000, Late: 12, Keys: [][]string{{"17", "a"}, {"19", "b"}}, Worst: 1500 * time.Millisecond, Behind: 40}
	for want, r := range map[string]AuditReport{
		"The ceiling did not hold":                                                    {Ceiling: late, Naive: late},
		"a reader without one missed rows":                                            {Ceiling: clean, Naive: late},
		"none of them put it to the test":                                             {Ceiling: clean, Naive: clean},
		"No row was added: this shows nothing":                                        {},
		"All rows were held back":                                                     {Naive: clean},
		"this shows nothing of 100 of them":                                           {Ceiling: Reading{Rows: 5000, Unseen: 100}, Naive: late},
		"5000 rows, 12 of them late, by up to 1.5s or 40 rows; the first: 17/a, 19/b": {Ceiling: clean, Naive: late},
	} {
		r.Table, r.Strategy, r.Start, r.End = "orders", "lock-fence", at, at.Add(time.Minute)
		require.Contains(t, r.String(), want)
		require.Contains(t, r.String(), "orders, 1m0s from 2026-01-31T12:00:00Z\nbelow the ceiling (lock-fence): ")
	}
}

func TestAuditChecksOptions(t *testing.T) {
	t.Parallel()
	table := &Table{DB: open(t, &fake{}), Name: "t", Key: []string{"id"}, Ceiling: ceiling.None{}}
	for _, o := range []AuditOptions{{For: -1}, {Interval: -1}, {Behind: -1}, {Rows: -1}} {
		_, err := Audit(t.Context(), table, o)
		require.ErrorContains(t, err, "is negative")
		require.Equal(t, retry.Fatal, retry.Classify(err))
	}
	for _, a := range []*Auditor{{Rows: -1}, {Window: -1}, {Every: -1}} {
		_, err := (&Table{DB: table.DB, Name: "t", Key: []string{"id"}, Audit: a}).Fetch(t.Context(), "", 1)
		require.ErrorContains(t, err, "Audit: ")
		_, err = (&Query[int]{DB: table.DB, Select: "select 1", Key: []string{"id"}, Audit: a}).Fetch(t.Context(), "", 1)
		require.ErrorContains(t, err, "Audit: ")
	}
	_, err := Audit(t.Context(), &Table{Name: "t"}, AuditOptions{})
	require.ErrorContains(t, err, "DB is nil")
}

// A window of time forgets what was handed out before it.
func TestWindowTrim(t *testing.T) {
	t.Parallel()
	w := newWindow(nil)
	w.hand(100, 2, 1, 2)
	w.hand(200, 2, 3, 4)
	w.hand(300, 2, 5, 6)
	n, unseen := w.trim(100, 100)
	require.Zero(t, n+unseen)
	w.walk([]int{1, 2, 3, 4, 5, 6}, 100, 300)
	n, unseen = w.trim(100, 150)
	require.Equal(t, []int{1, 0}, []int{n, unseen})
	require.Equal(t, intKey(2), w.from)
	w.next = len(w.blocks)
	_, ok := w.cut(intKey(3))
	require.True(t, ok)
	require.Equal(t, 1, w.next)
	w.hand(300, 2, 4)
	w.hand(300, 2, 5, 6)
	w.walk([]int{3, 4, 5, 6}, 100, 300)
	w.hand(400, 2, 7, 8)
	w.hand(500, 2, 9)
	n, unseen = w.trim(2, 0)
	require.Equal(t, []int{3, 2}, []int{n, unseen}, "5 and 6 were looked at, 7 and 8 not")
	require.Equal(t, 1, w.size)
	n, _ = w.trim(0, 0)
	require.Zero(t, n, "the last batch stays")
	w.trim(100, 501)
	require.Equal(t, intKey(9), w.end())
	require.Empty(t, w.blocks)
}

// Two windows do not take one key for another, however it is split among columns.
func TestWindowHash(t *testing.T) {
	t.Parallel()
	w := newWindow(nil)
	seen := map[uint64]bool{}
	for _, key := range [][]cell{
		{{tagText, []byte("ab")}, {tagText, []byte("c")}}, {{tagText, []byte("a")}, {tagText, []byte("bc")}},
		{{tagText, []byte("1")}}, {{tagInt, []byte("1")}}, {{tagBytes, []byte("1")}}, {{tagText, nil}}, {},
	} {
		h := w.hash(key)
		require.False(t, seen[h], "%v", key)
		seen[h] = true
	}
}
