package torture

import (
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/hostile"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/mysql"
)

func startMariaDB(t *testing.T, args ...string) *dbtest.Server {
	return dbtest.StartMariaDB(t, dbtest.Args(append([]string{
		"--innodb-buffer-pool-size=256M", "--innodb-log-file-size=256M", "--max-allowed-packet=64M",
	}, args...)...))
}

// ordersMariaDB creates a typical table of an application.
const ordersMariaDB = `create table orders (id bigint auto_increment primary key, token bigint not null unique, note varchar(20) not null default 'none')`

// slowMariaDB creates a trigger that is sometimes slow.
const slowMariaDB = `create trigger slow before insert on orders for each row begin if rand() < 0.0005 then do sleep(rand() * 0.5); end if; end`

// selectOnlyMariaDB opens the database as a user with SELECT on the table and PROCESS.
func selectOnlyMariaDB(t *testing.T, d dbtest.Database, admin *sqlx.DB) *sqlx.DB {
	admin.MustExec(`create user if not exists reader identified by 'reader'`)
	admin.MustExec(`grant select on ` + d.Name() + `.* to reader`)
	admin.MustExec(`grant process on *.* to reader`)
	db := d.WithUser("reader", "reader").Open(t, dbtest.MySQL)
	db.SetMaxOpenConns(10)
	return db
}

// The dirty probe misses no row of a typical table, for a user with SELECT and PROCESS.
func TestDirtyProbe(t *testing.T) {
	t.Parallel()
	server := startMariaDB(t)
	rounds(t, func(seed uint64, n int) {
		d := server.NewDatabase(t)
		db := open(t, d)
		defer db.Close() // frees the connections, because a long run has many rounds
		db.MustExec(ordersMariaDB)
		db.MustExec(slowMariaDB)
		restricted := selectOnlyMariaDB(t, d, db)
		defer restricted.Close()
		ledger, results := trial(t, "MariaDB, dirty probe", hostile.Trial{
			Writers: hostile.Writers{DB: db.DB, Table: ordersTable, Rows: n, For: *forFlag, Seed: seed, Acts: soundActs(t, db), Rollbacks: 0.1, Prepared: 0.1},
			Readers: []hostile.Reader{naive(restricted, "id"), reader("dirty probe", restricted, mysql.DirtyProbe{}, "id")},
		})
		requireLoss(t, results["naive"])
		requireSound(t, ledger, results["dirty probe"])
		db.MustExec(`drop table orders`)
	})
}

// INSERT IGNORE and ON DUPLICATE KEY UPDATE of 200,000 rows, two of which are new: the last
// one gets the lowest of the drawn keys, long after it was drawn.
func TestMariaDBUpsert(t *testing.T) {
	t.Parallel()
	notShort(t)
	const prefill = 200_000
	server := startMariaDB(t)
	d := server.NewDatabase(t)
	db := open(t, d)
	upsert := hostile.Upsert(prefill)
	untilConclusive(t, func(seed uint64) bool { // upserts are rare, and a seed may draw none
		db.MustExec(`drop table if exists orders`)
		db.MustExec(ordersMariaDB)
		restricted := selectOnlyMariaDB(t, d, db)
		ledger, results := trial(t, "MariaDB, IGNORE and ON DUPLICATE KEY of 200,000", hostile.Trial{
			Writers: hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 20_000, Seed: seed, Prefill: prefill, Acts: append(soundActs(t, db), upsert.WithWeight(0.05))},
			Readers: []hostile.Reader{naive(restricted, "id"), reader("dirty probe", restricted, mysql.DirtyProbe{}, "id")},
		})
		requireLoss(t, results["naive"])
		requireSound(t, ledger, results["dirty probe"])
		return ledger.Acts()[upsert.Name] > 0
	})
}

// A counter that is set back ends a running pipeline.
func TestAutoIncrementGoesBack(t *testing.T) {
	t.Parallel()
	notShort(t)
	server := startMariaDB(t)
	for name, statements := range map[string][]string{
		"TRUNCATE":        {`truncate orders`},
		"AUTO_INCREMENT":  {`delete from orders`, `alter table orders auto_increment = 1`},
		"recreated table": {`drop table orders`, ordersMariaDB},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := server.NewDatabase(t)
			db := open(t, d)
			db.MustExec(ordersMariaDB)
			restricted := selectOnlyMariaDB(t, d, db)
			err := runAndAlter(t, db, reader("dirty probe", restricted, mysql.DirtyProbe{}, "id").Source, append(statements, `insert into orders (token) values (-1)`)...)
			require.ErrorIs(t, err, sqlsource.ErrHistory)
		})
	}
}

// Unsafe tables are refused before the first row.
func TestMariaDBRefused(t *testing.T) {
	t.Parallel()
	server := startMariaDB(t)
	for name, c := range map[string]struct{ ddl, says string }{
		"engine":  {`create table orders (id bigint auto_increment primary key, token bigint) engine=MyISAM`, "MyISAM"},
		"no draw": {`create table orders (id bigint primary key, token bigint)`, "AUTO_INCREMENT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := server.NewDatabase(t)
			db := open(t, d)
			db.MustExec(c.ddl)
			_, err := reader("auto", selectOnlyMariaDB(t, d, db), nil, "id").Source.Fetch(t.Context(), "", 10)
			var unsafe *ceiling.UnsafeError
			require.ErrorAs(t, err, &unsafe)
			require.ErrorContains(t, err, c.says)
		})
	}
}
