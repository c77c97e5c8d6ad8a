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

// ordersMariaDB is a table as applications have it.
const ordersMariaDB = `create table orders (id bigint auto_increment primary key, token bigint not null unique, note varchar(20) not null default 'none')`

// slowMariaDB is a trigger that now and then is slow.
const slowMariaDB = `create trigger slow before insert on orders for each row begin if rand() < 0.0005 then do sleep(rand() * 0.5); end if; end`

// poorMariaDB returns the database as a user sees it that may read the table and
// see who is at work.
func poorMariaDB(t *testing.T, d dbtest.Database, admin *sqlx.DB) *sqlx.DB {
	admin.MustExec(`create user if not exists reader identified by 'reader'`)
	admin.MustExec(`grant select on ` + d.Name() + `.* to reader`)
	admin.MustExec(`grant process on *.* to reader`)
	db := d.As("reader", "reader").Open(t, dbtest.MySQL)
	db.SetMaxOpenConns(10)
	return db
}

// The dirty probe misses nothing on a table as it is, for a user with SELECT and
// PROCESS.
func TestDirtyProbe(t *testing.T) {
	t.Parallel()
	server := startMariaDB(t)
	rounds(t, func(seed uint64, n int) {
		d := server.NewDatabase(t)
		db := open(t, d)
		defer db.Close() // a server has so many connections, and a long run so many rounds
		db.MustExec(ordersMariaDB)
		db.MustExec(slowMariaDB)
		low := poorMariaDB(t, d, db)
		defer low.Close()
		ledger, results := trial(t, "MariaDB, dirty probe", hostile.Trial{
			Writers: hostile.Writers{DB: db.DB, Table: ordersTable, Rows: n, For: *forFlag, Seed: seed, Acts: sure(t, db), Rollbacks: 0.1, Prepared: 0.1},
			Readers: []hostile.Reader{naive(low, "id"), reader("dirty probe", low, mysql.DirtyProbe{}, "id")},
		})
		loses(t, results["naive"])
		sound(t, ledger, results["dirty probe"])
		db.MustExec(`drop table orders`)
	})
}

// INSERT IGNORE and ON DUPLICATE KEY UPDATE of 200,000 rows, of which two are new:
// the last of them gets a low key at last.
func TestMariaDBUpsert(t *testing.T) {
	t.Parallel()
	notShort(t)
	const prefill = 200_000
	server := startMariaDB(t)
	d := server.NewDatabase(t)
	db := open(t, d)
	upsert := hostile.Upsert(prefill)
	untilTelling(t, func(seed uint64) bool { // of so few upserts a seed may draw none
		db.MustExec(`drop table if exists orders`)
		db.MustExec(ordersMariaDB)
		low := poorMariaDB(t, d, db)
		ledger, results := trial(t, "MariaDB, IGNORE and ON DUPLICATE KEY of 200,000", hostile.Trial{
			Writers: hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 20_000, Seed: seed, Prefill: prefill, Acts: append(sure(t, db), upsert.Weigh(0.05))},
			Readers: []hostile.Reader{naive(low, "id"), reader("dirty probe", low, mysql.DirtyProbe{}, "id")},
		})
		loses(t, results["naive"])
		sound(t, ledger, results["dirty probe"])
		return ledger.Acts()[upsert.Name] > 0
	})
}

// A counter that goes back while a pipeline runs ends it.
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
			low := poorMariaDB(t, d, db)
			err := back(t, db, reader("dirty probe", low, mysql.DirtyProbe{}, "id").Source, append(statements, `insert into orders (token) values (-1)`)...)
			require.ErrorIs(t, err, sqlsource.ErrHistory)
		})
	}
}

// What cannot be made safe is refused before the first row.
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
			_, err := reader("auto", poorMariaDB(t, d, db), nil, "id").Source.Fetch(t.Context(), "", 10)
			var unsafe *ceiling.UnsafeError
			require.ErrorAs(t, err, &unsafe)
			require.ErrorContains(t, err, c.says)
		})
	}
}
