package recommend

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

func TestPatterns(t *testing.T) {
	t.Parallel()
	orders := dialect.Relation{Schema: "public", Name: "orders"}
	odd := dialect.Relation{Schema: "a.b", Name: "100%/[x]*"}
	for pattern, want := range map[string]bool{
		"": true, "*": true, "%": true, "orders": true, "order%": true, "ord*s": true, "public.*": true, "public.orders": true, "p%.o%": true,
		"order": false, "other.*": false, "other.orders": false, "Orders": false, "orders.*": false,
	} {
		assert.Equal(t, want, matches(orders, pattern), pattern)
	}
	assert.True(t, matches(odd, "100%/[x]*"), "its own name")
	assert.True(t, matches(odd, `"a.b"."100%/[x]*"`) || matches(odd, odd.Label()), "its label")
	assert.True(t, matches(odd, "100*"))
	assert.False(t, matches(odd, "100[x]"))
}

func TestTheBestMeansComesFirst(t *testing.T) {
	t.Parallel()
	refused := Means{Delivers: Rows | Changes, Allowed: true, Refused: "no"}
	diff := Means{Delivers: Rows | Changes, Allowed: true}
	script := Means{Delivers: Rows | Changes, Allowed: true, Script: []string{"CREATE"}}
	forbidden := Means{Delivers: Rows | Changes}
	inserts := Means{Delivers: Rows | Inserts, Allowed: true}
	order := []Means{diff, script, forbidden, {Delivers: Rows | Inserts | Updates, Allowed: true}, inserts, {Delivers: Rows, Allowed: true}, refused}
	for i := range order[1:] {
		assert.Less(t, rank(order[i]), rank(order[i+1]), "%d", i)
	}
}

func TestPricesGrowWithTheTable(t *testing.T) {
	t.Parallel()
	for rows, want := range map[int64]string{
		-1: "4 to 6 s for a million rows", 0: "1ms", 100: "1ms", 10_000: "40ms to 60ms", 1_000_000: "4s to 6s", 100_000_000: "6m40s to 10m", 10_000_000_000: "11h7m to 16h40m",
	} {
		assert.Equal(t, want, subject{relation: dialect.Relation{Rows: rows}}.duration(4, 6), "%d", rows)
	}
}

func TestTextIsAligned(t *testing.T) {
	t.Parallel()
	means := []Means{{Name: "diff", Package: "diffsource", Delivers: Rows | Changes, Allowed: true, Price: "1 s", Guarantee: "every row " + strings.Repeat("word ", 40), Rights: "SELECT"},
		{Name: "log", Package: "pglog", Refused: "no log"}}
	short := Table{Relation: dialect.Relation{Schema: "public", Name: "é", Kind: "table", Key: []string{"id"}, Rows: 1234567, Bytes: 2 << 30}, Means: means}
	long := Table{Relation: dialect.Relation{Schema: "public", Name: "longer", Kind: "view", Rows: -1, Bytes: -1}, Means: means}
	text := Text([]Table{short, long})
	lines := strings.Split(text, "\n")
	at := []int{}
	for _, line := range lines[:3] {
		assert.LessOrEqual(t, len([]rune(line)), 120)
		at = append(at, len([]rune(line[:strings.Index(line, "diff")+strings.Index(line, "recommended")+1])))
	}
	assert.Equal(t, at[1], at[2], text)
	assert.Contains(t, text, "public.é              1.2M  2.0 GB  id   diff")
	assert.Contains(t, text, "2 of 2 deliver inserts, updates and deletes")

	text = Text([]Table{short})
	assert.Contains(t, text, "recommended")
	assert.Contains(t, text, "not possible: no log")
	assert.Equal(t, "no table matches\n", Text(nil))
}

// down is a database that refuses connections.
type down struct{}

func (down) Connect(context.Context) (driver.Conn, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}
func (down) Driver() driver.Driver { return nil }

// An outage says nothing about a table: no means is reported as refused because of it.
func TestOutageIsAnError(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pgx", "mysql"} {
		db := sqlx.NewDb(sql.OpenDB(down{}), name)
		defer db.Close()
		found, err := Of(t.Context(), db, dialect.Relation{Schema: "public", Name: "orders", Kind: "table", Key: []string{"id"}})
		require.ErrorIs(t, err, syscall.ECONNREFUSED, name)
		assert.Empty(t, found.Means)
	}
}
