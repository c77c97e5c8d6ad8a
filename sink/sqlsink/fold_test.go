package sqlsink

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/row"
)

var foldColumns = row.NewColumns([]string{"id", "a", "b"}, nil)

type pair [2]string

// world is a table of the source, which is changed at random.
type world struct {
	t    *testing.T
	rnd  *rand.Rand
	rows map[string]pair
	n    int
}

func (w *world) row(id string, values pair, before *pair) row.Row {
	cells := []any{id, values[0], values[1]}
	for i := range values {
		if before != nil && before[i] == values[i] && w.rnd.IntN(2) == 0 {
			cells[i+1] = row.Unchanged{}
		}
	}
	r, err := row.Of(foldColumns, cells...)
	require.NoError(w.t, err)
	return r
}

func (w *world) key(id string) row.Row { return row.Pick([]row.Row{w.row(id, pair{}, nil)}, 0)[0] }

// change makes a change, and returns it as a source would.
func (w *world) change() row.Change {
	w.n++
	id, fresh := fmt.Sprint(w.rnd.IntN(6)), pair{fmt.Sprint("a", w.n), fmt.Sprint("b", w.n)}
	before, exists := w.rows[id]
	switch {
	case w.rnd.IntN(60) == 0:
		clear(w.rows)
		return row.Change{Op: row.Truncate}
	case !exists:
		w.rows[id] = fresh
		return row.Change{Op: row.Insert, Key: w.key(id), Row: w.row(id, fresh, nil)}
	case w.rnd.IntN(4) == 0:
		delete(w.rows, id)
		return row.Change{Op: row.Delete, Key: w.key(id)}
	}
	values := before
	values[w.rnd.IntN(2)] = fresh[0]
	to := fmt.Sprint(w.rnd.IntN(6))
	if _, taken := w.rows[to]; taken || w.rnd.IntN(2) == 0 {
		w.rows[id] = values
		return row.Change{Op: row.Update, Key: w.key(id), Row: w.row(id, values, &before)}
	}
	delete(w.rows, id)
	w.rows[to] = values
	return row.Change{Op: row.Update, Key: w.key(to), Row: w.row(to, values, &before), Old: w.key(id)}
}

// apply is what the database does with the steps.
func apply(t *testing.T, rows map[string]pair, steps []step) {
	set := func(from string, c row.Row) {
		values, exists := rows[from]
		require.True(t, exists, "an update of a row that does not exist")
		delete(rows, from)
		for i := range values {
			if !c.IsUnchanged(i + 1) {
				values[i] = c.Text(i + 1)
			}
		}
		rows[c.Text(0)] = values
	}
	for _, s := range steps {
		if s.truncate {
			clear(rows)
		}
		for _, key := range s.deleted {
			delete(rows, key.Text(0))
		}
		for _, c := range s.partial {
			set(c.Key.Text(0), c.Row)
		}
		if s.moved != nil {
			set(s.moved.Old.Text(0), s.moved.Row)
		}
		for _, r := range s.rows {
			rows[r.Text(0)] = pair{r.Text(1), r.Text(2)}
		}
	}
}

func TestFold(t *testing.T) {
	t.Parallel()
	for seed := range uint64(1000) {
		w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), rows: map[string]pair{}}
		folded, single := map[string]pair{}, map[string]pair{}
		for range 4 {
			var changes []row.Change
			for range 1 + w.rnd.IntN(20) {
				changes = append(changes, w.change())
			}
			steps := fold(changes, false)
			require.LessOrEqual(t, len(steps), len(changes))
			apply(t, folded, steps)
			require.Equal(t, w.rows, folded, "seed %d", seed)
			apply(t, single, fold(changes, true))
			require.Equal(t, w.rows, maps.Clone(single), "seed %d, one by one", seed)
		}
	}
}

// Many changes of a few rows are one step.
func TestFoldIsShort(t *testing.T) {
	t.Parallel()
	w := &world{t: t, rnd: rand.New(rand.NewPCG(1, 1)), rows: map[string]pair{}}
	var changes []row.Change
	for n := range 1000 {
		id := fmt.Sprint(n % 3)
		changes = append(changes, row.Change{Op: row.Upsert, Key: w.key(id), Row: w.row(id, pair{fmt.Sprint(n), "b"}, nil)})
	}
	steps := fold(changes, false)
	require.Len(t, steps, 1)
	require.Len(t, steps[0].rows, 3)
	require.Equal(t, "999", steps[0].rows[0].Text(1))
}
