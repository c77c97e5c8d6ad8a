package pglog_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/pglog"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// The tests find a source that delivers transactions again that the copy has.
func TestMutantWithoutFilterDies(t *testing.T) {
	t.Parallel()
	for _, mutant := range []bool{false, true} {
		w := newWorld(t, start(t).NewDatabase(t))
		s := open(t, w.db)
		// The slot is older than the copy, so that the log has many transactions of the copy.
		w.db.MustExec(`select pg_create_logical_replication_slot($1, 'pgoutput')`, s.Slot)
		w.write(2, 1500)
		for w.changes.Load() < 500 {
			w.db.MustExec(`select pg_sleep(0.005)`)
		}
		j, at := newJudge(), source.Cursor("")
		take := func() (more bool) {
			b, err := s.Fetch(context.Background(), at, 1000)
			require.NoError(t, err)
			for _, c := range b.Records {
				text, err := json.Marshal(c)
				require.NoError(t, err)
				d := json.NewDecoder(strings.NewReader(string(text)))
				d.UseNumber()
				var e event
				require.NoError(t, d.Decode(&e))
				j.apply(e)
			}
			more = len(b.Records) > 0 || b.To != at || b.Held != nil
			at = b.To
			if f := strings.Split(string(at), ";"); mutant && f[3] == "log" {
				f[2] = "-"
				at = source.Cursor(strings.Join(f, ";"))
			}
			return more
		}
		for w.changes.Load() < 1500 {
			take()
		}
		w.done.Wait()
		for take() {
		}
		j.compare(w.state(t))
		if mutant {
			assert.NotEmpty(t, j.faults)
		} else {
			assert.Empty(t, j.faults)
		}
	}
}

// A batch can be fetched again until its cursor is saved. A source that assumes that the cursor of a Fetch
// is saved loses the batch before it, if that could not be written.
func TestMutantThatAdvancesToAfterDies(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key); create publication p for table t`)
	for _, mutant := range []bool{false, true} {
		s := open(t, db)
		saved := func(c source.Cursor) {
			if mutant {
				s.Saved(c)
			}
		}
		_, first := read(t, s, "", 10)
		db.MustExec(`insert into t select count(*) from t; `)
		b, err := lab.Fetch(t, s, first, 10)
		require.NoError(t, err)
		require.Len(t, b.Records, 1)
		require.NoError(t, s.Close())
		saved(b.To)
		_, err = s.Fetch(t.Context(), b.To, 10) // is fetched ahead
		require.NoError(t, err)
		require.NoError(t, s.Close())
		again := &pglog.Source{DB: db, Slot: s.Slot, Publication: "p"}
		got, err := lab.Fetch(t, again, first, 10)
		if mutant {
			require.ErrorIs(t, err, pglog.ErrHistory)
		} else {
			require.NoError(t, err)
			assert.Equal(t, texts(t, b.Records), texts(t, got.Records))
		}
		require.NoError(t, again.Close())
	}
}

// The conformance suite finds a source that does not look ahead.
func TestMutantWithoutLookAheadDies(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key); create publication p for table t`)
	s := open(t, db)
	s.SkipCopy = true
	read(t, s, "", 10)
	db.MustExec(`insert into t select generate_series(1, 6)`)
	err := sourcetest.TestSource(t.Context(), sourcetest.Options[row.Change]{
		Open: func(context.Context) (source.Source[row.Change], error) {
			return source.Func[row.Change](func(ctx context.Context, after source.Cursor, limit int) (source.Batch[row.Change], error) {
				b, err := s.Fetch(ctx, after, limit)
				b.More = len(b.Records) == limit
				return b, err
			}), nil
		},
		AtLeast: 6,
	})
	require.ErrorContains(t, err, "More says that the next Fetch has records")
}
