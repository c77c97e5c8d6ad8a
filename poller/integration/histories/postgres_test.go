package histories

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

const createPostgres = `create table orders (id serial primary key, token text not null default gen_random_uuid()::text, state text not null default 'new', total int not null default floor(random() * 1000), at timestamptz not null default clock_timestamp())`

func insertPostgres(t *testing.T, db *sqlx.DB) func(int) {
	return func(n int) {
		run(t, db, fmt.Sprintf(`insert into orders (state) select 'new' from generate_series(1, %d)`, n))
	}
}

// What happens within one database between two polls.
func TestPostgresActs(t *testing.T) {
	t.Parallel()
	const copyOrders = `insert into fresh select * from orders`
	fresh := `create table fresh (like orders including all); alter table fresh alter id set default nextval('orders_id_seq');`
	swap := `alter table orders rename to old; alter table fresh rename to orders;`
	own := `alter sequence orders_id_seq owned by orders.id;`
	fill := `insert into orders (state) select 'other' from generate_series(1, 2000);`
	for n, act := range []struct {
		name, do string
		want     outcome // with the ceiling that is chosen
		lossy    outcome // with a lossy ceiling, which looks at no sequence; "": the same
	}{
		{"reload in one transaction", `begin; truncate orders restart identity; ` + fill + ` commit`, refused, ""},
		{"reload with old keys", `begin; truncate orders; insert into orders select n, gen_random_uuid()::text, 'other', n from generate_series(1, 2000) n; select setval('orders_id_seq', 2000); commit`, refused, ""},
		{"reload of the same rows", `create table keep as table orders; begin; truncate orders; insert into orders table keep; commit`, continues, ""},
		{"drop and create", `drop table orders; ` + createPostgres + `;` + fill, refused, ""},
		{"rename swap with other rows", fresh + `insert into fresh select id, gen_random_uuid()::text, state, 1001 + id, clock_timestamp() from orders;` + swap + own, refused, ""},
		{"rename swap with the same rows", fresh + copyOrders + `;` + swap + own, continues, ""},
		{"rename swap with some of the rows", fresh + copyOrders + ` where id < 150;` + swap + own, refused, ""},
		{"setval", `delete from orders; select setval('orders_id_seq', 1, false)`, refused, later},
		{"setval, filled", `begin; delete from orders; select setval('orders_id_seq', 1, false);` + fill + `commit`, told, ""},
		{"sequence restarted, filled", `begin; delete from orders; alter sequence orders_id_seq restart;` + fill + `commit`, refused, told},
		{"int to bigint", `alter table orders alter id type bigint; alter sequence orders_id_seq as bigint`, continues, ""},
		{"truncated", `truncate orders`, continues, ""},
		{"all rows updated, rebuilt", `update orders set state = 'done', total = total + 1 | vacuum full orders`, continues, ""},
		{"pruned, rebuilt", `delete from orders where id <= 300 | vacuum full orders | cluster orders using orders_pkey`, continues, ""},
		{"columns", `alter table orders add note text default 'x'; alter table orders drop total; alter table orders rename state to status; alter table orders rename status to state`, continues, ""},
	} {
		for _, restarted := range restarts(n) {
			t.Run(fmt.Sprint(act.name, restarted), func(t *testing.T) {
				t.Parallel()
				db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PQ) // it runs several statements at once, vacuum alone
				run(t, db, createPostgres)
				insert := insertPostgres(t, db)
				all := newPipelines(t, db)
				insert(300)
				all.poll()
				run(t, db, strings.Split(act.do, " | ")...)
				if restarted {
					all.restart(db)
				}
				all.check(act.want, act.lossy, insert)
			})
		}
	}
}

// A backup or a snapshot of the server's disk is restored.
func TestPostgresRestored(t *testing.T) {
	t.Parallel()
	for _, act := range []struct {
		name       string
		lost, grow int // rows that the backup lacks, and that are inserted before the next poll
		want       outcome
	}{
		{"nothing was lost", 0, 0, continues},
		{"nothing was lost, grown", 0, 100, continues},
		{"behind the cursor", 40, 0, refused},
		{"grown past the cursor", 40, 400, refused},
		{"a single row lost, grown past the cursor", 1, 400, told}, // in ordinary life a single row is updated in all columns that tell it apart
		{"everything lost, grown past the cursor", 300, 4000, refused},
	} {
		t.Run(act.name, func(t *testing.T) {
			t.Parallel()
			server := dbtest.StartPostgres(t)
			db := server.NewDatabase(t).Open(t, dbtest.PGX)
			db.SetMaxIdleConns(0)
			run(t, db, createPostgres)
			insert := insertPostgres(t, db)
			all := newPipelines(t, db)
			insert(300 - act.lost)
			require.NoError(t, server.Stop())
			restore, err := server.Backup()
			require.NoError(t, err)
			require.NoError(t, server.Start())
			all.poll()
			insert(act.lost)
			all.poll()
			require.Len(t, all[0].tokens, 300)
			require.NoError(t, server.Stop())
			require.NoError(t, restore())
			require.NoError(t, server.Start())
			insert(act.grow)
			all.restart(db)
			all.check(act.want, "", insert)
		})
	}
}

// A standby is promoted, with and without the last commits.
func TestPostgresPromoted(t *testing.T) {
	t.Parallel()
	for name, act := range map[string]struct {
		rows, lost int
		want       outcome
	}{"without loss": {300, 0, continues}, "without loss, young": {3, 0, continues}, "with loss": {300, 40, refused}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			primary := dbtest.StartPostgres(t)
			database := primary.NewDatabase(t)
			db := database.Open(t, dbtest.PGX)
			run(t, db, createPostgres)
			insertPostgres(t, db)(act.rows)
			server := dbtest.StartStandby(t, primary)
			all := newPipelines(t, db)
			all.poll()
			if act.lost > 0 {
				require.NoError(t, server.Stop())
				insertPostgres(t, db)(act.lost)
				all.poll()
				require.NoError(t, primary.Stop())
				require.NoError(t, server.Start())
			}
			standby := server.Database(database.Name()).Open(t, dbtest.PGX)
			lab.WaitFor(t, func() bool {
				var n int
				return standby.Get(&n, `select count(*) from orders`) == nil && n == act.rows
			})
			if act.lost == 0 {
				require.NoError(t, primary.Stop())
			}
			run(t, standby, `select pg_promote()`)
			all.restart(standby)
			insertPostgres(t, standby)(200)
			all.check(act.want, "", insertPostgres(t, standby))
		})
	}
}

// copyTo copies the rows up to a key, and lets the sequence continue after them, as dump and restore do.
func copyTo(t *testing.T, from, to *sqlx.DB, upTo int) {
	t.Helper()
	run(t, to, createPostgres)
	rows, err := from.Queryx(`select id, token, state, total, at from orders where id <= $1`, upTo)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		values, err := rows.SliceScan()
		require.NoError(t, err)
		_, err = to.Exec(`insert into orders (id, token, state, total, at) values ($1, $2, $3, $4, $5)`, values...)
		require.NoError(t, err)
	}
	require.NoError(t, rows.Err())
	run(t, to, fmt.Sprintf(`select setval('orders_id_seq', %d, false)`, upTo+1))
}

// Updates that change every telling value look like other rows after a restart. The refusal says what to do.
func TestPostgresCountedAndRestarted(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	db := server.NewDatabase(t).Open(t, dbtest.PGX)
	db.SetMaxIdleConns(0)
	run(t, db, `create table orders (id serial primary key, kind int default 1, hits int default 0, seen timestamptz default clock_timestamp())`,
		`insert into orders (hits) select n * n from generate_series(1, 300) n`)
	p := newPipeline(t, db)
	p.column = "id"
	require.NoError(t, p.poll())
	run(t, db, `update orders set hits = -hits, seen = clock_timestamp()`)
	require.NoError(t, server.Stop())
	require.NoError(t, server.Start())
	run(t, db, `insert into orders default values`)
	err := p.poll()
	require.ErrorIs(t, err, sqlsource.ErrHistory)
	require.ErrorContains(t, err, "if all rows were updated, and the server was restarted or the table rebuilt, adopt")
	p.adopt()
	p.requireComplete()
}

// The database moves to a new cluster.
func TestPostgresMoved(t *testing.T) {
	t.Parallel()
	old, other := dbtest.StartPostgres(t, dbtest.Args("-c", "wal_level=logical")), dbtest.StartPostgres(t)
	for _, act := range []struct {
		name  string
		move  func(t *testing.T, from dbtest.Database, db, to *sqlx.DB)
		grow  int
		want  outcome
		lossy outcome // with a lossy ceiling, which looks at no sequence; "": the same
	}{
		{"dump and restore", func(t *testing.T, _ dbtest.Database, db, to *sqlx.DB) { copyTo(t, db, to, 300) }, 100, continues, ""},
		{"an older dump", func(t *testing.T, _ dbtest.Database, db, to *sqlx.DB) { copyTo(t, db, to, 200) }, 400, refused, ""},
		{"another database", func(t *testing.T, _ dbtest.Database, db, to *sqlx.DB) { copyTo(t, db, to, 0) }, 400, refused, ""},
		{"dump and restore, updated", func(t *testing.T, _ dbtest.Database, db, to *sqlx.DB) {
			copyTo(t, db, to, 300)
			run(t, to, `update orders set state = 'done'`)
		}, 100, continues, ""},
		{"logical replication", func(t *testing.T, from dbtest.Database, db, to *sqlx.DB) {
			replicate(t, from, db, to)
			run(t, to, `select setval('orders_id_seq', 300)`)
		}, 100, continues, ""},
		{"logical replication, without the sequence", replicate, 0, refused, continues}, // keys collide, so no row is lost
	} {
		t.Run(act.name, func(t *testing.T) {
			t.Parallel()
			from := old.NewDatabase(t)
			db, to := from.Open(t, dbtest.PGX), other.NewDatabase(t).Open(t, dbtest.PQ)
			run(t, db, createPostgres)
			insertPostgres(t, db)(300)
			all := newPipelines(t, db)
			all.poll()
			act.move(t, from, db, to)
			all.restart(to)
			insertPostgres(t, to)(act.grow)
			all.check(act.want, act.lossy, func(n int) {
				if act.grow > 0 { // otherwise keys collide
					insertPostgres(t, to)(n)
				}
			})
		})
	}
}

// replicate copies the table by logical replication, and ends that.
func replicate(t *testing.T, from dbtest.Database, db, to *sqlx.DB) {
	t.Helper()
	run(t, to, createPostgres)
	run(t, db, `create publication p for table orders`, fmt.Sprintf(`select pg_create_logical_replication_slot('%s', 'pgoutput')`, from.Name()))
	run(t, to, fmt.Sprintf(`create subscription %[1]s connection '%[2]s' publication p with (create_slot = false, slot_name = '%[1]s')`, from.Name(), from.DSN(dbtest.PQ)))
	lab.WaitFor(t, func() bool {
		var n int
		return to.Get(&n, `select count(*) from orders`) == nil && n == 300
	})
	run(t, to, fmt.Sprintf(`drop subscription %s`, from.Name()))
}
