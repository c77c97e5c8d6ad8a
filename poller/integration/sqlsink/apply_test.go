package sqlsink

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/sink/sqlsink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

var (
	seed    = flag.Uint64("sqlsink.seed", 1, "the seed of TestApply")
	batches = flag.Int("sqlsink.batches", 12, "how many batches TestApply writes")
)

func applying(t testing.TB, db *sqlx.DB) *sqlsink.Sink[row.Change] {
	s, err := sqlsink.Apply(db, "changes", sqlsink.Options{})
	require.NoError(t, err)
	return s
}

func TestApplyConformance(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec("CREATE TABLE orders (id " + lab.IDColumn(driver) + ", name VARCHAR(20), CHECK (name <> 'poison'))")
		upsert := func(r row.Row) row.Change {
			return row.Change{Op: row.Upsert, Table: "public.orders", Row: r, Key: row.Pick([]row.Row{r}, 0)[0]}
		}
		require.NoError(t, sinktest.TestSink(t.Context(), sinktest.Options[row.Change]{
			Open: func(context.Context) (sinktest.Opened[row.Change], error) {
				s := applying(t, db)
				return sinktest.Opened[row.Change]{Sink: s, Checkpointer: s}, nil
			},
			Read: func(ctx context.Context) (all []row.Change, _ error) {
				rows, err := read(ctx, db, "orders")
				for _, r := range rows {
					all = append(all, upsert(r))
				}
				return all, err
			},
			Record: func(i int) row.Change { return upsert(order(t, i, strings.Repeat("x", i%5))) },
			Poison: func() row.Change { return upsert(order(t, 1_000_000, "poison")) },
			Text:   func(c row.Change) string { return names(c.Row) },
		}))
	})
}

var itemColumns = row.NewColumns([]string{"id", "part", "a", "b"}, nil)

// item is a row of a table with the key (id, part) and the unique column a.
type item struct { // as sqlx maps it
	ID   int64
	Part string
	A    int64
	B    string
}

// shop is the source: two tables that are changed at random.
type shop struct {
	t      testing.TB
	rnd    *rand.Rand
	tables map[string]map[string]item // by name and key
	n      int
}

func (i item) key() string { return fmt.Sprint(i.ID, " ", i.Part) }

func (s *shop) row(i item, before *item) row.Row {
	cells := []any{i.ID, i.Part, i.A, i.B}
	if before != nil && before.B == i.B && s.rnd.IntN(3) > 0 {
		cells[3] = row.Unchanged{}
	}
	r, err := row.Of(itemColumns, cells...)
	require.NoError(s.t, err)
	return r
}

func (s *shop) keyOf(i item) row.Row { return row.Pick([]row.Row{s.row(i, nil)}, 0, 1)[0] }

// free returns a value of the unique column that no row has.
func (s *shop) free(rows map[string]item) int64 {
	for {
		a, taken := int64(s.rnd.IntN(12)), false
		for _, i := range rows {
			taken = taken || i.A == a
		}
		if !taken {
			return a
		}
	}
}

func (s *shop) change() row.Change {
	s.n++
	name := []string{"items", "others"}[s.rnd.IntN(5)/4]
	rows := s.tables[name]
	i := item{int64(s.rnd.IntN(4)), []string{"x", "it's"}[s.rnd.IntN(2)], s.free(rows), fmt.Sprint("b\\", s.n)}
	before, exists := rows[i.key()]
	switch {
	case s.rnd.IntN(80) == 0:
		clear(rows)
		return row.Change{Op: row.Truncate, Table: name}
	case !exists:
		rows[i.key()] = i
		return row.Change{Op: row.Insert, Table: name, Key: s.keyOf(i), Row: s.row(i, nil)}
	case s.rnd.IntN(4) == 0:
		delete(rows, i.key())
		return row.Change{Op: row.Delete, Table: name, Key: s.keyOf(i)}
	}
	after := before
	if s.rnd.IntN(2) == 0 {
		after.A = i.A
	} else {
		after.B = i.B
	}
	c := row.Change{Op: row.Update, Table: name}
	if s.rnd.IntN(3) == 0 {
		after.ID = int64(s.rnd.IntN(4))
		if _, taken := rows[after.key()]; taken {
			after.ID = before.ID
		}
		c.Old = s.keyOf(before)
	}
	delete(rows, before.key())
	rows[after.key()] = after
	c.Key, c.Row = s.keyOf(after), s.row(after, &before)
	return c
}

// Random changes of two tables, with moved keys, values that are not known, a second unique key and
// emptied tables, leave the target equal to the source after each batch.
func TestApply(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		w := &shop{t: t, rnd: rand.New(rand.NewPCG(*seed, 7)), tables: map[string]map[string]item{"items": {}, "others": {}}}
		for name := range w.tables {
			db.MustExec("CREATE TABLE " + name + " (b varchar(20) not null, a bigint unique, part varchar(5) not null, id bigint not null, primary key (id, part))")
		}
		s := applying(t, db)
		at, err := s.Load(t.Context())
		require.NoError(t, err)
		for n := range *batches {
			b := source.Batch[row.Change]{From: at, To: source.Cursor(fmt.Sprint(n + 1))}
			for range 1 + w.rnd.IntN(40) {
				b.Records = append(b.Records, w.change())
			}
			require.NoError(t, s.Write(t.Context(), b), "go test -run %s -sqlsink.seed %d", t.Name(), *seed)
			at = b.To
			for name, rows := range w.tables {
				var got []item
				require.NoError(t, db.Select(&got, "SELECT id, part, a, b FROM "+name))
				var want []item
				for _, i := range rows {
					want = append(want, i)
				}
				order := func(a, b item) int { return strings.Compare(a.key(), b.key()) }
				slices.SortFunc(got, order)
				slices.SortFunc(want, order)
				require.Equal(t, want, got, "%s after batch %d: go test -run %s -sqlsink.seed %d", name, n, t.Name(), *seed)
			}
		}
	})
}

// What a change does not say cannot be made up.
func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec("CREATE TABLE items (id bigint not null, part varchar(5) not null, a bigint, b varchar(20), primary key (id, part))")
		s := applying(t, db)
		_, err := s.Load(t.Context())
		require.NoError(t, err)
		w := &shop{t: t}
		write := func(c row.Change) error {
			c.Table = "items"
			return s.Write(t.Context(), source.Batch[row.Change]{To: "1", Records: []row.Change{c}})
		}
		partial, err := row.Of(itemColumns, int64(1), "x", int64(2), row.Unchanged{})
		require.NoError(t, err)
		err = write(row.Change{Op: row.Update, Key: w.keyOf(item{ID: 1, Part: "x"}), Row: partial})
		require.ErrorIs(t, err, sink.ErrRejected)
		require.ErrorContains(t, err, "does not exist")
		lab.RequirePermanent(t, write(row.Change{Op: row.Insert, Row: w.row(item{}, nil)}), "no key")

		db.MustExec("INSERT INTO items VALUES (1, 'x', 2, 'kept')")
		require.NoError(t, write(row.Change{Op: row.Update, Key: w.keyOf(item{ID: 1, Part: "x"}), Row: partial}), "nothing changes")
		require.Equal(t, []string{"kept"}, texts(t, db, "SELECT b FROM items"))
	})
}
