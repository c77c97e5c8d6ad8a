package changelog

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

var (
	changes = flag.Int64("changelog.changes", 1000, "how many rows the writers of TestTorture change on each database")
	writers = flag.Int("changelog.writers", 4, "how many writers TestTorture has")
	kills   = flag.Int("changelog.kills", 3, "how often TestTorture kills the reading process")
	crashes = flag.Int("changelog.crashes", 0, "how often TestTorture kills the server, which is its own then")
	large   = flag.Int("changelog.large", 200, "how many rows one transaction of TestTorture inserts, updates and deletes")
	keys    = flag.Bool("changelog.keys", false, "whether TestTorture records keys only")
	rounds  = flag.Int("changelog.rounds", 10, "how many rounds of random statements TestReplay runs")
	seed    = flag.Uint64("changelog.seed", 0, "seed of TestTorture; 0 draws one")
)

// torture is one database under attack.
type torture struct {
	t      *testing.T
	driver dbtest.Driver
	db     *sqlx.DB
	server *dbtest.Server // nil if it does not crash
	dsn    string
	seed   uint64
	done   atomic.Int64 // changed rows
}

// The process that reads is killed, and the server crashes, while hostile writers work. Each change comes once, and
// after the change that it builds on.
func TestTorture(t *testing.T) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.MySQL, dbtest.Modernc} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			x := &torture{t: t, driver: driver, seed: *seed}
			if x.seed == 0 {
				x.seed = rand.Uint64()
			}
			t.Logf("replay with: go test ./changelog -run TestTorture/%s -changelog.seed %d", driver, x.seed)
			d := lab.DatabaseFor(t, driver)
			switch {
			case *crashes > 0 && driver == dbtest.PGX:
				x.server = dbtest.StartPostgres(t, dbtest.Args("-c", "deadlock_timeout=50ms"))
			case *crashes > 0 && driver == dbtest.MySQL:
				x.server = dbtest.StartMariaDB(t)
			}
			if x.server != nil {
				d = x.server.NewDatabase(t)
			}
			x.db, x.dsn = d.Open(t, driver), d.DSN(driver)
			x.run()
		})
	}
}

func (x *torture) run() {
	x.db.MustExec(`create table items (id int not null primary key, code int, v varchar(200), n int)`)
	install(x.t, tortured(x.db, *keys))
	var work sync.WaitGroup
	ended := make(chan struct{})
	for w := range *writers {
		work.Go(func() { x.write(w, rand.New(rand.NewPCG(x.seed, uint64(w)))) })
	}
	work.Go(x.crash)
	work.Go(x.alter)
	go func() { work.Wait(); close(ended) }()
	dir := filepath.Join(x.t.TempDir(), "items")
	x.kill(dir, ended)
	<-ended
	out, err := spawn(x.t, x.driver.SQLName(), x.dsn, dir, "yes").CombinedOutput()
	require.NoError(x.t, err, "%s", out)
	x.judge(dir)
}

// kill starts the reading process again and again, and kills it at random times until the writers end.
func (x *torture) kill(dir string, ended chan struct{}) {
	random := rand.New(rand.NewPCG(x.seed, 1000))
	for n := 0; ; n++ {
		cmd := spawn(x.t, x.driver.SQLName(), x.dsn, dir, "")
		var out bytes.Buffer
		cmd.Stderr = &out
		require.NoError(x.t, cmd.Start())
		wait := time.After(time.Duration(100+random.IntN(400)) * time.Millisecond)
		if n >= *kills {
			wait = nil
		}
		exited := make(chan struct{})
		go func() { defer close(exited); _ = cmd.Wait() }()
		select {
		case <-wait:
		case <-ended:
		case <-exited: // the columns changed, and the script has not run yet
			require.Contains(x.t, out.String(), "Script")
			n--
			continue
		}
		_ = cmd.Process.Kill()
		<-exited
		select {
		case <-ended:
			if n >= *kills {
				return
			}
		default:
		}
	}
}

// crash kills the server as the writers progress.
func (x *torture) crash() {
	for n := range *crashes {
		if x.server == nil {
			return
		}
		lab.Reach(x.t, &x.done, *changes*int64(n+1)/int64(*crashes+1))
		if err := x.server.Kill(); err != nil {
			x.t.Error(err)
		}
		if err := x.server.Start(); err != nil {
			x.t.Error(err)
		}
	}
}

// alter adds a column while the writers work, and brings the triggers up to date.
func (x *torture) alter() {
	lab.Reach(x.t, &x.done, *changes/2)
	x.until(func() error { _, err := x.db.Exec(`alter table items add column extra int`); return err })
	x.until(func() error {
		s, err := tortured(x.db, *keys).Script(x.t.Context())
		if err == nil {
			err = s.Run(x.t.Context(), x.db)
		}
		return err
	})
}

// until repeats f while the server is down or a lock is not available.
func (x *torture) until(f func() error) {
	var err error
	for late := time.Now().Add(lab.WaitLimit); time.Now().Before(late); time.Sleep(10 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	x.t.Errorf("seed %d: %v", x.seed, err)
}

// write runs random transactions until enough rows have changed. The first writer has one large transaction.
func (x *torture) write(writer int, r *rand.Rand) {
	for n := 0; x.done.Load() < *changes && !x.t.Failed(); n++ {
		statements := []string{x.begin(r)}
		if writer == 0 && n == 5 {
			statements = append(statements, x.huge()...)
		} else {
			for range 1 + r.IntN(5) {
				statements = append(statements, x.act(r)...)
			}
		}
		end := "commit"
		if r.IntN(8) == 0 {
			end = "rollback"
		}
		x.transact(append(statements, end))
	}
}

func (x *torture) begin(r *rand.Rand) string {
	switch {
	case isSQLite(x.driver):
		return "begin immediate"
	case lab.IsPostgres(x.driver) && r.IntN(3) == 0:
		return "begin; set local synchronous_commit = off"
	}
	return "begin"
}

// transact runs statements on one connection, and rolls back after an error.
func (x *torture) transact(statements []string) {
	conn, err := x.db.Conn(x.t.Context())
	if err != nil {
		return // the server is down
	}
	defer conn.Close()
	var rows int64
	for _, s := range statements {
		result, err := conn.ExecContext(x.t.Context(), s)
		if err != nil {
			conn.ExecContext(x.t.Context(), "rollback") //nolint:errcheck // the connection may be dead
			return
		}
		if n, err := result.RowsAffected(); err == nil {
			rows += n
		}
	}
	if statements[len(statements)-1] == "commit" {
		x.done.Add(rows)
	}
}

// huge returns statements that change very many rows and leave half of them.
func (x *torture) huge() []string {
	numbers := fmt.Sprintf(`with recursive g(n) as (select 1 union all select n + 1 from g where n < %d) select n + 1000000, n, 'large', 0 from g`, *large)
	setting := "select 1"
	if lab.IsMariaDB(x.driver) {
		setting = "set max_recursive_iterations = 100000000"
	}
	return []string{setting, "delete from items where id >= 1000000", "insert into items (id, code, v, n) " + numbers,
		"update items set n = n + 1, v = 'larger' where id >= 1000000", "delete from items where id >= 1000000 and code % 2 = 0"}
}

// act returns random statements.
func (x *torture) act(r *rand.Rand) []string {
	keys := int(max(300, *changes/200))
	a, b, c := r.IntN(keys), r.IntN(keys), r.IntN(1000)
	upsert := "on conflict (id) do update set n = items.n + 1, v = 'upsert'"
	if lab.IsMariaDB(x.driver) {
		upsert = "on duplicate key update n = n + 1, v = 'upsert'"
	}
	all := [][]string{
		{fmt.Sprintf("insert into items (id, code, v, n) values (%d, %d, 'i', 0) %s", a, c, upsert)},
		{fmt.Sprintf("update items set n = n + 1, v = 'u%d' where id = %d", c, a)},
		{fmt.Sprintf("update items set n = n + 1 where id between %d and %d", a, a+7)},
		{fmt.Sprintf("delete from items where id = %d", a)},
		{fmt.Sprintf("update items set id = %d, v = 'moved' where id = %d and not exists (select 1 from (select id from items where id = %d) as o)", b, a, b)},
		{"savepoint s", fmt.Sprintf("update items set n = n + 100 where id between %d and %d", a, a+3), fmt.Sprintf("insert into items (id, code) values (%d, 1) %s", b, upsert), "rollback to savepoint s"},
		{"savepoint s", fmt.Sprintf("delete from items where id = %d", b), fmt.Sprintf("insert into items (id, code, v, n) values (%d, %d, 's', 1)", b, c), "release savepoint s"},
	}
	if lab.IsPostgres(x.driver) && r.IntN(keys) == 0 {
		return []string{"truncate items"}
	}
	return all[r.IntN(len(all))]
}
