package sqlsource

import (
	"context"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// uptoGreatest is a Ceiling at the greatest existing key.
type uptoGreatest struct{ raised *int }

func (uptoGreatest) String() string { return "greatest" }

func (c uptoGreatest) Open(context.Context, ceiling.Queryer, ceiling.Table) (ceiling.Guard, error) {
	return c, nil
}

func (c uptoGreatest) Report() ceiling.Report {
	return ceiling.Report{Strategy: c.String(), Guarantee: "none"}
}

func (c uptoGreatest) Advance(ctx context.Context, db ceiling.Queryer, _ []string) (ceiling.Limit, error) {
	*c.raised++
	l := ceiling.Limit{Where: "t.id <= ?"}
	var top int64
	err := db.QueryRowContext(ctx, "select coalesce(max(id), 0) from t").Scan(&top)
	l.Args = []any{top}
	return l, err
}

// One ceiling serves a whole backlog. A batch that comes to it goes on to where
// it is by then: a batch that is not full would say that the end is reached.
func TestSQLSourceReadsOnBeyondAnOldCeiling(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (id ` + idColumn(driver) + `, v int)`)
		insert := func() { db.MustExec(`insert into t (v) values (1), (2), (3), (4), (5), (6)`) }
		raised := 0
		table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Columns: []string{"id"}, Ceiling: uptoGreatest{&raised}}
		ids := func(records []row.Row) (all []string) {
			for _, r := range records {
				all = append(all, r.Text(0))
			}
			return all
		}
		insert()
		b, err := fetch(t, table, "", 2)
		require.NoError(t, err)
		require.True(t, b.More)
		insert()
		b, err = fetch(t, table, b.To, 2)
		require.NoError(t, err)
		require.True(t, b.More)
		require.Equal(t, 1, raised)
		b, err = fetch(t, table, b.To, 100)
		for err == nil && isPostgres(driver) && len(b.Records) < 8 { // it may wait for the disk between the two
			require.NotNil(t, b.Held)
			more, failed := fetch(t, table, b.To, 100)
			b.Records, b.To, b.Held, err = append(b.Records, more.Records...), more.To, more.Held, failed
		}
		require.NoError(t, err)
		require.Equal(t, []string{"5", "6", "7", "8", "9", "10", "11", "12"}, ids(b.Records))
		require.False(t, b.More)

		// The batch is full at the old ceiling, and more rows exist.
		insert()
		b, err = fetch(t, table, b.To, 3)
		require.NoError(t, err)
		insert()
		b, err = fetch(t, table, b.To, 3)
		require.NoError(t, err)
		require.Len(t, b.Records, 3)
		require.True(t, b.More || b.Held != nil)
	})
}
