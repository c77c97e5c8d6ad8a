package sqlsource

import (
	"context"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// greatestKey is a Ceiling at the greatest existing key. advances counts calls of Advance.
type greatestKey struct{ advances *int }

func (greatestKey) String() string { return "greatest" }

func (c greatestKey) Open(context.Context, ceiling.Queryer, ceiling.Table) (ceiling.Guard, error) {
	return c, nil
}

func (c greatestKey) Report() ceiling.Report {
	return ceiling.Report{Strategy: c.String(), Guarantee: "none"}
}

func (c greatestKey) Advance(ctx context.Context, db ceiling.Queryer, _ []string) (ceiling.Limit, error) {
	*c.advances++
	l := ceiling.Limit{Where: "t.id <= ?"}
	var top int64
	err := db.QueryRowContext(ctx, "select coalesce(max(id), 0) from t").Scan(&top)
	l.Args = []any{top}
	return l, err
}

// One ceiling serves a whole backlog. A batch that reaches it is continued up to the
// current ceiling, because a batch that is not full would say that no more rows exist.
func TestSQLSourceReadsOnBeyondAnOldCeiling(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (id ` + lab.IDColumn(driver) + `, v int)`)
		insert := func() { db.MustExec(`insert into t (v) values (1), (2), (3), (4), (5), (6)`) }
		advances := 0
		table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Columns: []string{"id"}, Ceiling: greatestKey{&advances}}
		ids := func(records []row.Row) (all []string) {
			for _, r := range records {
				all = append(all, r.Text(0))
			}
			return all
		}
		insert()
		b, err := lab.Fetch(t, table, "", 2)
		require.NoError(t, err)
		require.True(t, b.More)
		insert()
		b, err = lab.Fetch(t, table, b.To, 2)
		require.NoError(t, err)
		require.True(t, b.More)
		require.Equal(t, 1, advances)
		b, err = lab.Fetch(t, table, b.To, 100)
		for err == nil && lab.IsPostgres(driver) && len(b.Records) < 8 { // the second part may wait for the disk
			require.NotNil(t, b.Held)
			more, failed := lab.Fetch(t, table, b.To, 100)
			b.Records, b.To, b.Held, err = append(b.Records, more.Records...), more.To, more.Held, failed
		}
		require.NoError(t, err)
		require.Equal(t, []string{"5", "6", "7", "8", "9", "10", "11", "12"}, ids(b.Records))
		require.False(t, b.More)

		// The batch is full at the old ceiling, and more rows exist.
		insert()
		b, err = lab.Fetch(t, table, b.To, 3)
		require.NoError(t, err)
		insert()
		b, err = lab.Fetch(t, table, b.To, 3)
		require.NoError(t, err)
		require.Len(t, b.Records, 3)
		require.True(t, b.More || b.Held != nil)
	})
}
