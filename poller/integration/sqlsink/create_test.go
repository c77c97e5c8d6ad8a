package sqlsink

import (
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/sink/sqlsink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

// A table is created for the rows of each database in each other one, and holds their values.
func TestCreate(t *testing.T) {
	t.Parallel()
	drivers := []dbtest.Driver{dbtest.PGX, dbtest.MySQL, dbtest.Modernc}
	for _, from := range drivers {
		src := lab.DatabaseFor(t, from).Open(t, from)
		create(src, engineIndex(from), "crossings", true)
		want := readAny(t, src, "crossings")
		for _, to := range drivers {
			t.Run(string(from+" to "+to), func(t *testing.T) {
				db := lab.DatabaseFor(t, to).Open(t, to)
				s, err := sqlsink.Upsert(db, "crossings", "copy", sqlsink.Options{Create: true, Key: []string{"id"}})
				require.NoError(t, err)
				_, err = s.Load(t.Context())
				require.NoError(t, err)
				require.NoError(t, s.Write(t.Context(), source.Batch[row.Row]{To: "1", Records: want[:1]}))
				require.NoError(t, s.Write(t.Context(), source.Batch[row.Row]{From: "1", To: "2", Records: want}))
				got := readAny(t, db, "copy")
				require.Len(t, got, len(want))
				for i, r := range got {
					for k := range r.Len() {
						w, g := want[i].Text(k), r.Text(k)
						if r.Columns().Name(k) == "doc" {
							w, g = strings.ReplaceAll(w, " ", ""), strings.ReplaceAll(g, " ", "")
						}
						require.Equal(t, w, g, "row %d, column %s", i, r.Columns().Name(k))
						require.Equal(t, want[i].IsNull(k), r.IsNull(k))
					}
				}
			})
		}
	}
}

// Columns that the source gets later are added, by rows and by changes.
func TestCreateAdds(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec("CREATE TABLE kept (id bigint not null primary key)")
		s, err := sqlsink.Insert(db, "rows", "kept", sqlsink.Options{Create: true})
		require.NoError(t, err)
		_, err = s.Load(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Write(t.Context(), source.Batch[row.Row]{To: "1", Records: []row.Row{order(t, 1, "a")}}))
		more, err := row.Of(row.NewColumns([]string{"id", "more"}, nil, row.Type{}, row.Type{Class: row.Integer, Bits: 16}), int64(2), int64(7))
		require.NoError(t, err)
		require.NoError(t, s.Write(t.Context(), source.Batch[row.Row]{From: "1", To: "2", Records: []row.Row{more}}))
		require.Equal(t, []string{"7"}, texts(t, db, "SELECT more FROM kept WHERE name IS NULL"))

		changes, err := sqlsink.Apply(db, "changes", sqlsink.Options{Create: true})
		require.NoError(t, err)
		_, err = changes.Load(t.Context())
		require.NoError(t, err)
		w := &shop{t: t}
		i := item{ID: 1, Part: "x", A: 2, B: "b"}
		require.NoError(t, changes.Write(t.Context(), source.Batch[row.Change]{To: "1", Records: []row.Change{
			{Op: row.Truncate, Table: "public.fresh"},
			{Op: row.Delete, Table: "public.fresh", Key: w.keyOf(i)},
			{Op: row.Insert, Table: "public.fresh", Key: w.keyOf(i), Row: w.row(i, nil)},
			{Op: row.Truncate, Table: "public.nothing"},
		}}))
		require.Equal(t, []string{"b"}, texts(t, db, "SELECT b FROM fresh"))
	})
}

// A table that cannot be created as it is asked for is refused.
func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		for part, key := range map[string][]string{"Options.Key does not say": nil, `no column "nothing"`: {"nothing"}} {
			s, err := sqlsink.Upsert(db, "rows", "missing", sqlsink.Options{Create: true, Key: key})
			require.NoError(t, err)
			_, err = s.Load(t.Context())
			require.NoError(t, err)
			lab.RequirePermanent(t, s.Write(t.Context(), source.Batch[row.Row]{To: "1", Records: []row.Row{order(t, 1, "a")}}), part)
		}
	})
}
