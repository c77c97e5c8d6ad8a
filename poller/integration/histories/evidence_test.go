package histories

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// The data source name leads to another cluster. Values that are made of the key are the same there, and prove
// nothing. The same rows are proof, whatever number a driver has for their types there.
func TestPostgresOtherCluster(t *testing.T) {
	t.Parallel()
	here, there := dbtest.StartPostgres(t), dbtest.StartPostgres(t)
	const state = `, state text default 's' || floor(random() * 4))`
	fill := func(columns, values string) string {
		return fmt.Sprintf(`insert into orders (%s) select %s from generate_series(1, %%d) n`, columns, values)
	}
	for name, c := range map[string]struct {
		create, fill string
		same         bool
	}{
		"an order number":        {`(id serial primary key, no text` + state, fill("no", "'ORD-' || n"), false},
		"two, and an address":    {`(id serial primary key, no text, slug text, email text default gen_random_uuid()` + state, fill("no, slug", "'ORD-' || n, 'orders/' || n"), false},
		"a second serial":        {`(id serial primary key, seq serial` + state, fill("state", "'s' || floor(random() * 3)"), false},
		"the same rows":          {`(id serial primary key, no text, day date)`, fill("no, day", "'ORD-' || n, date '2020-01-01' + n"), true},
		"the same rows, an enum": {`(id serial primary key, mood mood)`, fill("mood", "('m' || n)::mood"), true},
	} {
		for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ} {
			if testing.Short() && driver == dbtest.PQ {
				continue
			}
			t.Run(fmt.Sprint(name, driver), func(t *testing.T) {
				t.Parallel()
				from, to := here.NewDatabase(t), there.NewDatabase(t)
				var moods []string
				for n := range 600 {
					moods = append(moods, fmt.Sprintf("'m%d'", n))
				}
				create := func(db *sqlx.DB, rows int) {
					run(t, db, `create type mood as enum (`+strings.Join(moods, ",")+`)`, `create table orders `+c.create, fmt.Sprintf(c.fill, rows))
				}
				db, other := from.Open(t, driver), to.Open(t, driver)
				create(db, 300)
				run(t, other, `create type first as enum ('a')`)
				create(other, 500)
				if !c.same {
					run(t, other, `update orders set state = 'other'`)
				}
				p := newPipeline(t, db)
				p.column, p.ceiling = "id", ceiling.None{}
				require.NoError(t, p.poll())
				p.db = other
				p.restart()
				check, err := p.source().Check(t.Context(), p.cursor)
				require.NoError(t, err)
				err = p.poll()
				if c.same {
					require.NoError(t, err)
					require.Equal(t, 500, p.rows)
					require.Contains(t, check.String(), "the delivered rows are there")
					return
				}
				require.ErrorIs(t, err, sqlsource.ErrHistory)
				require.Contains(t, check.String(), "STOPPED")
			})
		}
	}
}

// A pruned table moves to another cluster without its sequence. A ceiling that reads the sequence refuses the
// cursor. The others cannot tell that keys below it are drawn again, and do not say that nothing was lost.
func TestPostgresMovedWithoutItsSequence(t *testing.T) {
	t.Parallel()
	here, there := dbtest.StartPostgres(t), dbtest.StartPostgres(t)
	db, to := here.NewDatabase(t).Open(t, dbtest.PGX), there.NewDatabase(t).Open(t, dbtest.PQ)
	run(t, db, createPostgres)
	insertPostgres(t, db)(2000)
	all := newPipelines(t, db)
	all.poll()
	run(t, db, `delete from orders where id <= 1900`)
	copyTo(t, db, to, 2000)
	run(t, to, `select setval('orders_id_seq', 1200, false)`)
	insertPostgres(t, to)(10)
	all.restart(to)
	for _, p := range all {
		check, err := p.source().Check(t.Context(), p.cursor)
		require.NoError(t, err)
		require.NotContains(t, check.String(), "nothing was lost")
		if err := p.poll(); p.ceiling == nil {
			require.ErrorIs(t, err, sqlsource.ErrHistory)
			continue
		} else {
			require.NoError(t, err)
		}
		require.Contains(t, check.String(), "set the sequence")
		require.Contains(t, p.log.String(), `level=WARN msg="history continues"`)
		require.Contains(t, p.log.String(), "set the sequence that draws them (setval)")
	}
}

// record is what a program makes of a row, with optional values in a column of JSON.
type record struct {
	ID      int64     `db:"id"`
	State   string    `db:"state"`
	Created time.Time `db:"created"`
	Updated time.Time `db:"updated"`
	Address address   `db:"address"`
}

type address struct{ City *string }

func (a *address) Scan(src any) error {
	city := fmt.Sprintf("%s", src)
	a.City = &city
	return nil
}

// The digest of a record does not depend on its place in memory, nor on the zone of a session or a program.
func TestQueryInAnotherZone(t *testing.T) {
	t.Parallel()
	const select_ = `select id, state, created, updated, address from orders`
	for name, c := range map[string]struct {
		database     func(t *testing.T) dbtest.Database
		driver       dbtest.Driver
		create, fill string
		rebuild      string
		zone         string // of the data source name
	}{
		"postgres": {func(t *testing.T) dbtest.Database { return dbtest.Postgres(t).NewDatabase(t) }, dbtest.PQ,
			`create table orders (id serial primary key, state text default 'new', created timestamptz default clock_timestamp(), updated timestamptz default clock_timestamp(), address text default gen_random_uuid())`,
			`insert into orders (state) select 'new' from generate_series(1, %d)`, `vacuum full orders`, "TimeZone=Asia/Tokyo"},
		"mariadb": {func(t *testing.T) dbtest.Database { return dbtest.MariaDB(t).NewDatabase(t) }, dbtest.MySQL,
			`create table orders (id int auto_increment primary key, state varchar(9) default 'new', created timestamp(6) default now(6), updated timestamp(6) default now(6), address varchar(40) default uuid())`,
			`insert into orders (created, updated) select timestampadd(second, seq, now(6)), timestampadd(minute, seq, now(6)) from seq_1_to_%d`, `optimize table orders`, "loc=Asia%2FTokyo&time_zone=%27%2B09:00%27"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := c.database(t)
			db := d.Open(t, c.driver)
			tokyo := sqlx.MustOpen(c.driver.SQLName(), d.DSN(c.driver)+"&"+c.zone)
			defer tokyo.Close()
			run(t, db, c.create, fmt.Sprintf(c.fill, 100))
			p := newPipeline(t, db)
			for _, db := range []*sqlx.DB{db, tokyo} {
				q := &sqlsource.Query[record]{DB: db, Select: select_, Table: "orders", Key: []string{"id"}, Ceiling: ceiling.None{}, Logger: slog.New(slog.NewTextHandler(&p.log, nil))}
				for range 2 {
					lab.WaitFor(t, func() bool { // the commit is asynchronous
						b, err := q.Fetch(t.Context(), p.cursor, 200)
						require.NoError(t, err, p.log.String())
						p.cursor = b.To
						return len(b.Records) > 0
					})
					run(t, db, fmt.Sprintf(c.fill, 1))
				}
				run(t, db, c.rebuild)
			}
			require.NotContains(t, p.log.String(), "delivered rows changed")
			require.Contains(t, p.log.String(), "6 are the same")
		})
	}
}

// A large value after so many columns that they share a number is read again as NULL, and compares with nothing.
func TestWideRowsWithLargeValues(t *testing.T) {
	t.Parallel()
	var columns strings.Builder
	for i := range 70 {
		fmt.Fprintf(&columns, ", c%d int default 1", i)
	}
	for name, c := range map[string]struct {
		open                  func(t *testing.T) *sqlx.DB
		create, fill, rebuild string
	}{
		"postgres": {func(t *testing.T) *sqlx.DB { return dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PQ) }, `(id serial primary key, body text`,
			`insert into orders (body) select repeat(md5(random()::text), 34000) from generate_series(1, 7)`, `vacuum full orders`},
		"mariadb": {func(t *testing.T) *sqlx.DB { return dbtest.MariaDB(t).NewDatabase(t).Open(t, dbtest.MySQL) }, `(id int auto_increment primary key, body longtext`,
			`insert into orders (body) select repeat(uuid(), 31000) from seq_1_to_7`, `optimize table orders`},
		"sqlite": {func(t *testing.T) *sqlx.DB { return dbtest.SQLite(t).Open(t, dbtest.Modernc) }, `(id integer primary key autoincrement, body blob`,
			`insert into orders (body) with recursive s(n) as (select 1 union all select n + 1 from s where n < 7) select randomblob(1100000) from s`, `vacuum`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := c.open(t)
			key, body, _ := strings.Cut(c.create, ", ")
			run(t, db, `create table orders `+key+columns.String()+`, `+body+`)`, c.fill)
			p := newPipeline(t, db)
			p.column = "id"
			require.NoError(t, p.poll())
			run(t, db, c.rebuild, c.fill)
			require.NoError(t, p.poll())
			require.NotContains(t, p.log.String(), "were replaced by others")
			require.NotRegexp(t, `[1-9] were (updated|replaced)`, p.log.String())
		})
	}
}

// A cursor holds names with the marks of the form it was made in.
func TestNamesBelowAView(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a@b", "a/b", "*a,b:c", "~1", "+x", "!x;%41"} {
		for database, create := range map[string]string{"mariadb": "int auto_increment primary key", "sqlite": "integer primary key autoincrement"} {
			t.Run(database+" "+name, func(t *testing.T) {
				t.Parallel()
				db := dbtest.SQLite(t).Open(t, dbtest.Modernc)
				if database == "mariadb" {
					db = dbtest.MariaDB(t).NewDatabase(t).Open(t, dbtest.MySQL)
				}
				insert := "insert into `" + name + "` (state) values (1), (1), (1)"
				run(t, db, "create table `"+name+"` (id "+create+", state int)", "create view orders as select * from `"+name+"`", insert)
				p := newPipeline(t, db)
				p.column = "id"
				require.NoError(t, p.poll())
				run(t, db, insert)
				require.NoError(t, p.poll())
				require.Equal(t, 6, p.rows)
			})
		}
	}
}

// A refusal is kept next to a key that leaves little room for it.
func TestRefusedUnderALongKey(t *testing.T) {
	t.Parallel()
	for _, length := range []int{1320, 1340} {
		db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PQ)
		const create = `create table orders (id text collate "C" primary key, state int)`
		fill := fmt.Sprintf(`insert into orders select n || repeat('ж', %d), 1 from generate_series(100, 120) n`, length)
		run(t, db, create, fill)
		p := newPipeline(t, db)
		p.column, p.ceiling = "id", ceiling.None{}
		require.NoError(t, p.poll())
		run(t, db, `drop table orders`, create, fill)
		for range 2 {
			p.restart()
			require.ErrorIs(t, p.poll(), sqlsource.ErrHistory)
			require.True(t, strings.HasPrefix(string(p.cursor), "3;"))
		}
	}
}

// The ceiling below a view is another one than before. The table is the same.
func TestOtherCeilingBelowAView(t *testing.T) {
	t.Parallel()
	for _, order := range [][2]ceiling.Ceiling{{nil, ceiling.None{}}, {ceiling.None{}, nil}} {
		db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
		run(t, db, `create table below (id serial primary key, state int)`, `create view orders as select * from below`)
		p := newPipeline(t, db)
		p.column = "id"
		for _, p.ceiling = range order {
			run(t, db, `insert into below (state) select 1 from generate_series(1, 50)`)
			p.restart()
			require.NoError(t, p.poll())
		}
		require.Equal(t, 100, p.rows)
	}
}

// A role may read a view, and not see what is below it.
func TestMariaDBViewOfHiddenTables(t *testing.T) {
	t.Parallel()
	d := dbtest.MariaDB(t).NewDatabase(t)
	db, reader := d.Open(t, dbtest.MySQL), d.Name()+"r"
	run(t, db, `create table below (id int auto_increment primary key, token varchar(40) default uuid())`, `create view orders as select * from below`,
		`insert into below (id) values (1), (2), (3)`, `create user `+reader+` identified by 'r'`, `grant select on orders to `+reader)
	t.Cleanup(func() { run(t, db, `drop user `+reader) })
	p := newPipeline(t, d.WithUser(reader, "r").Open(t, dbtest.MySQL))
	p.ceiling = ceiling.None{}
	require.NoError(t, p.poll())
	require.Len(t, p.tokens, 3)
}

// A child of an ancestor is emptied and filled again.
func TestChildTruncated(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PQ)
	run(t, db, `create table orders (id serial primary key, token text default gen_random_uuid(), name text default gen_random_uuid())`,
		`create table child (primary key (id)) inherits (orders)`, `insert into child select from generate_series(1, 300)`)
	p := newPipeline(t, db)
	require.NoError(t, p.poll())
	run(t, db, `begin; truncate child; insert into child (id) select n from generate_series(1, 2000) n; select setval('orders_id_seq', 2000); commit`)
	require.ErrorIs(t, p.poll(), sqlsource.ErrHistory)
}
