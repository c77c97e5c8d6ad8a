package sqlsource

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// The text is read in a minute, and its statements can be pasted into a client.
func TestCheckText(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	c := &Check{
		Table: "orders", Cursor: "orders after id = 42", Newest: "id = 4711", Pending: MaxPending + 1, AsOf: at,
		Report: ceiling.Report{Strategy: "lock-fence", Guarantee: "every row is read once it is committed", Findings: []ceiling.Finding{
			{Level: ceiling.OK, Text: "an index begins with the key"},
			{Level: ceiling.Warning, Text: "a text that is so long that it does not fit on one line of the terminal, and goes on in the next", Remedies: []ceiling.Remedy{{Words: "add it and then use it", Statements: []string{"ALTER TABLE t ADD x int;", "CREATE INDEX ON t (x);"}}, {Words: "leave it"}}},
		}},
		Findings:  []ceiling.Finding{{Level: ceiling.Note, Text: "of the source"}},
		Held:      &source.Held{Since: at.Add(-time.Minute), By: []string{"pid 7 (psql)", "1 more"}},
		Statement: "SELECT t.* FROM t WHERE (x > 0\n) ORDER BY t.id\n-- argument 1: \"42\"", Plan: []string{"Limit", "  ->  Index Scan"},
	}
	require.True(t, c.Safe())
	want := `orders: SAFE. No row is missed with the ceiling lock-fence
         every row is read once it is committed

ok       an index begins with the key
warning  a text that is so long that it does not fit on one line of the terminal, and goes on in the
         next
         -> add it and then use it
             ALTER TABLE t ADD x int;
             CREATE INDEX ON t (x);
         -> or leave it
note     of the source

cursor   orders after id = 42
newest   id = 4711
pending  more than 10000 rows
as of    all rows committed before 2026-01-31T12:00:00Z can be read
held     rows are held back by pid 7 (psql); 1 more; seen since 2026-01-31T11:59:00Z

reads with
  SELECT t.* FROM t WHERE (x > 0
  ) ORDER BY t.id
  -- argument 1: "42"
planned as
  Limit
    ->  Index Scan
`
	require.Equal(t, want, c.String())
}

func TestCheckVerdict(t *testing.T) {
	t.Parallel()
	unsafe := []ceiling.Finding{{Level: ceiling.Warning}, {Level: ceiling.Unsafe}}
	for want, c := range map[string]Check{
		"SAFE. No row is missed with the ceiling x": {Findings: unsafe[:1]},
		`SAFE for inserts only. No inserted row is missed with the ceiling x, but updates can be: nothing is known to set "updated_at" at each UPDATE`: {InsertsOnly: "updated_at"},
		"LOSSY. Rows can be missed with the ceiling x, which was chosen explicitly":                                                                    {Report: ceiling.Report{Lossy: true}},
		"STOPPED. It cannot continue from here":                                            {Findings: unsafe},
		"STOPPED. It cannot continue from here; and rows can be missed with the ceiling x": {Findings: unsafe, Report: ceiling.Report{Lossy: true}},
		"UNSAFE. Rows would be missed with the ceiling x, so it is refused":                {Report: ceiling.Report{Lossy: true, Findings: unsafe}},
	} {
		c.Report.Strategy = "x"
		require.Equal(t, want, c.verdict())
		require.Equal(t, want[:4] == "SAFE", c.Safe())
	}
	require.Equal(t, "1 row", (&Check{Pending: 1}).pendingText())
	require.Equal(t, "0 rows", (&Check{}).pendingText())
	require.Equal(t, "not counted", (&Check{Pending: -1}).pendingText())
}
