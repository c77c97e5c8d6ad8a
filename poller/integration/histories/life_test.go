package histories

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

var (
	runsFlag = flag.Int("histories.runs", 0, "how often ordinary life is lived, with each kind of table; 0: 12 times, and 4 with -short")
	seedFlag = flag.Uint64("histories.seed", 1, "the first seed; 0: a random one")
)

// life is a table and what happens to it in ordinary life.
type life struct {
	create  string
	insert  func(n int) string
	rebuild []string // ways to rebuild it
	drop    string   // drops its oldest partition, of which %d is the number from 1; "": it has none
}

const parts = 40 // partitions of 100 rows

func postgresLives() map[string]life {
	insert := func(n int) string {
		return fmt.Sprintf(`insert into orders (token, state) select md5(random()::text), 'new' from generate_series(1, %d)`, n)
	}
	columns := `(id bigserial primary key, token text, state text, at timestamptz default clock_timestamp())`
	var split strings.Builder
	split.WriteString(`create table orders ` + columns + ` partition by range (id)`)
	for i := range parts {
		fmt.Fprintf(&split, `; create table orders_%d partition of orders for values from (%d) to (%d)`, i+1, 100*i, 100*i+100)
	}
	return map[string]life{
		"wide":        {`create table orders ` + columns, insert, []string{`vacuum full orders`, `cluster orders using orders_pkey`, `alter table orders alter state type varchar(20)`, `alter table orders alter state type text`}, ""},
		"narrow":      {`create table orders (id bigserial primary key, token text, state text default null)`, insert, []string{`vacuum full orders`}, ""},
		"partitioned": {split.String(), insert, []string{`vacuum full orders`}, `drop table orders_%d`},
	}
}

func mariaDBLives() map[string]life {
	insert := func(n int) string {
		return fmt.Sprintf(`insert into orders (token, state) select uuid(), 'new' from seq_1_to_%d`, n)
	}
	columns := `(id bigint auto_increment primary key, token varchar(40), state varchar(20), at timestamp(6) default current_timestamp(6))`
	var split []string
	for i := range parts {
		split = append(split, fmt.Sprintf(`partition p%d values less than (%d)`, i+1, 100*i+100))
	}
	return map[string]life{
		"wide":        {`create table orders ` + columns, insert, []string{`optimize table orders`, `alter table orders force`, `alter table orders modify state varchar(30)`}, ""},
		"narrow":      {`create table orders (id bigint auto_increment primary key, token varchar(40), state varchar(20))`, insert, []string{`optimize table orders`}, ""},
		"partitioned": {`create table orders ` + columns + ` partition by range (id) (` + strings.Join(split, ", ") + `)`, insert, []string{`alter table orders force`}, `alter table orders drop partition p%d`},
	}
}

func sqliteLives() map[string]life {
	insert := func(n int) string { return fillSQLite("new", n) }
	return map[string]life{
		"wide": {createSQLite, insert, []string{`vacuum`, `create table if not exists extra (a)`, `drop table if exists extra`}, ""},
		"narrow": {`create table orders (id integer primary key autoincrement, token text, state text, total int)`,
			func(n int) string { return strings.Replace(fillSQLite("new", n), "abs(random()) % 1000", "7", 1) }, []string{`vacuum`}, ""},
	}
}

// Updates, deletes, pruning, rebuilds, partitions and restarts are never refused, and no row is lost.
func TestOrdinaryLife(t *testing.T) {
	t.Parallel()
	runs, seed := 12, *seedFlag
	if testing.Short() {
		runs = 4
	}
	if *runsFlag > 0 {
		runs = *runsFlag
	}
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	for name, db := range map[string]struct {
		lives map[string]life
		open  func(*testing.T) *sqlx.DB
	}{
		"postgres": {postgresLives(), func(t *testing.T) *sqlx.DB { return dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PQ) }},
		"mariadb":  {mariaDBLives(), func(t *testing.T) *sqlx.DB { return dbtest.MariaDB(t).NewDatabase(t).Open(t, dbtest.MySQL) }},
		"sqlite":   {sqliteLives(), func(t *testing.T) *sqlx.DB { return dbtest.SQLite(t).Open(t, dbtest.Modernc) }},
	} {
		for kind, l := range db.lives {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				for i := range runs {
					seed := seed + uint64(i)
					if !t.Run(fmt.Sprint(seed), func(t *testing.T) { l.live(t, db.open(t), seed) }) {
						return
					}
				}
			})
		}
	}
}

func (l life) live(t *testing.T, db *sqlx.DB, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	run(t, db, l.create)
	p := newPipeline(t, db)
	p.column = "id" // tokens are updated
	p.ceiling = ceilings[seed%uint64(len(ceilings))]
	var did []string
	do := func(s string) { did = append(did, s); run(t, db, s) }
	dropped, inserted := 0, 0
	some := func() string { return fmt.Sprintf(` where id %% %d = %d`, 2+random.IntN(9), random.IntN(2)) }
	for range 25 {
		switch random.IntN(10) {
		case 0, 1, 2:
			n := 1 + random.IntN(100)
			inserted += n
			do(l.insert(n))
		case 3:
			do(`update orders set state = 'done'` + some())
		case 4:
			do(`update orders set state = 'sent'`)
		case 5:
			do(`delete from orders` + some())
		case 6:
			do(fmt.Sprintf(`delete from orders where id < %d`, random.IntN(inserted+1)))
		case 7:
			do(l.rebuild[random.IntN(len(l.rebuild))])
		case 8:
			if l.drop != "" && 100*(dropped+2) < inserted {
				dropped++
				do(fmt.Sprintf(l.drop, dropped))
			}
		case 9:
			p.restart()
		}
		if random.IntN(2) == 0 {
			require.NoError(t, p.poll(), "%s\n%s", strings.Join(did, "\n"), p.log.String())
			require.Empty(t, p.lost())
		}
	}
	require.NoError(t, p.poll())
	p.requireComplete()
	require.NotContains(t, p.log.String(), "delivered rows changed")
}
