package diffsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/filecheckpoint"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

// A sink that stores the cursor apart from the records ends with the table's rows, although the process dies between the two
// again and again, and the delivered changes are undone in the table before it starts again.
func TestCrashesBeforeTheCursorIsSaved(t *testing.T) {
	t.Parallel()
	for name, db := range databases(t) {
		for _, kind := range []string{"int", "varchar(20)"} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				const seed = 5
				rng := rand.New(rand.NewPCG(seed, 1))
				of := "t_" + kind[:3]
				db.MustExec(`create table ` + of + ` (id ` + kind + ` primary key, v int not null)`)
				p := &apart{t: t, dir: t.TempDir(), db: db, of: of, stored: map[string]string{}}
				for range 25 {
					for p.dies = rng.IntN(3); p.dies > 0; {
						change(db, of, rng)
						p.drain(rng)
					}
					change(db, of, rng)
					p.drain(rng)
					want := map[string]string{}
					rows, err := db.Query(`select id, v from ` + of)
					require.NoError(t, err)
					for rows.Next() {
						var id, v string
						require.NoError(t, rows.Scan(&id, &v))
						want[id] = v
					}
					require.NoError(t, rows.Err())
					require.Equal(t, want, p.stored, "seed %d", seed)
				}
			})
		}
	}
}

// apart is a pipeline whose sink stores the records apart from the cursor.
type apart struct {
	t      *testing.T
	dir    string
	db     *sqlx.DB
	of     string
	stored map[string]string
	dies   int // how often it dies with the next batch
}

var errDied = errors.New("the process died")

// drain runs the pipeline until it has nothing more to deliver, or dies after some changes of a batch.
func (p *apart) drain(rng *rand.Rand) {
	write := func(_ context.Context, b source.Batch[row.Change]) error {
		if p.dies == 0 || len(b.Records) == 0 {
			p.store(b.Records)
			return nil
		}
		p.dies--
		p.store(b.Records[:rng.IntN(len(b.Records)+1)])
		return retry.Permanent(errDied)
	}
	s := open(p.t, p.db, filepath.Join(p.dir, "state"), p.of, "id")
	c, err := filecheckpoint.Open(filepath.Join(p.dir, "checkpoint"), filecheckpoint.Options{})
	require.NoError(p.t, err)
	poll := &poller.Poller[row.Change]{Name: p.of, Source: s, Sink: sink.Func[row.Change](write), Checkpointer: c, BatchSize: 1 + rng.IntN(4), Logger: slog.New(slog.DiscardHandler)}
	if err = poll.Drain(p.t.Context()); err != nil {
		require.ErrorIs(p.t, err, errDied)
	}
	require.NoError(p.t, errors.Join(s.Close(), c.Close()))
}

func (p *apart) store(changes []row.Change) {
	for _, c := range changes {
		if delete(p.stored, c.Key.Text(0)); c.Op != row.Delete {
			p.stored[c.Key.Text(0)] = c.Row.Text(1)
		}
	}
}

// change makes some changes of few rows, so that they often take others back.
func change(db *sqlx.DB, of string, rng *rand.Rand) {
	for range 1 + rng.IntN(3) {
		id := rng.IntN(4)
		db.MustExec(fmt.Sprintf(`delete from %s where id = '%d'`, of, id))
		if v := rng.IntN(3); v > 0 {
			db.MustExec(fmt.Sprintf(`insert into %s values ('%d', %d)`, of, id, v))
		}
	}
}
