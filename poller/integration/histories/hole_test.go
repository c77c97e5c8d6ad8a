package histories

import (
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// A cursor takes a position in the log only with rows that were read below it: those of an older ceiling
// are delivered while newer rows wait for the disk, and a crash can take back the log between.
func TestMarkIsOnDisk(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t, dbtest.Args("-c", "wal_writer_delay=10s", "-c", "autovacuum=off"))
	db := server.NewDatabase(t).Open(t, dbtest.PGX)
	run(t, db, `set synchronous_commit = on`, `create table orders (id bigserial primary key, flag bool default false)`)
	table := lab.Silent(db, "orders", "id")
	conn, err := db.Connx(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	insert := func(commit string) {
		_, err := conn.ExecContext(t.Context(), `set synchronous_commit = `+commit)
		require.NoError(t, err)
		_, err = conn.ExecContext(t.Context(), `insert into orders select from generate_series(1, 100)`)
		require.NoError(t, err)
	}
	mark := regexp.MustCompile(`@(\d+);`)
	cursor, held := "", 0
	for range 3 {
		insert("on")
		b, err := table.Fetch(t.Context(), "", 10)
		require.NoError(t, err)
		require.Len(t, b.Records, 10, "%+v", b.Held)
		insert("off")
		b, err = table.Fetch(t.Context(), b.To, 1000)
		require.NoError(t, err)
		if b.Held != nil {
			held++
		}
		cursor = string(b.To)
		var flushed uint64
		require.NoError(t, db.Get(&flushed, `select pg_current_wal_flush_lsn() - '0/0'`))
		at, err := strconv.ParseUint(mark.FindStringSubmatch(cursor)[1], 10, 64)
		require.NoError(t, err)
		require.LessOrEqual(t, at, flushed, cursor)
	}
	t.Logf("%d of 3 batches ended before rows that were not on disk", held)
}

// The copy reads from a standby. Another one, which had less, is promoted and grows past the cursor, and the
// keys of the delivered rows are not drawn again.
func TestPostgresOtherStandbyPromoted(t *testing.T) {
	t.Parallel()
	primary := dbtest.StartPostgres(t)
	database := primary.NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	run(t, db, createPostgres)
	insertPostgres(t, db)(100)
	read, behind := dbtest.StartStandby(t, primary), dbtest.StartStandby(t, primary)
	on := func(s *dbtest.Server) *sqlx.DB { return s.Database(database.Name()).Open(t, dbtest.PGX) }
	has := func(db *sqlx.DB, want int) {
		t.Helper()
		lab.WaitFor(t, func() bool {
			var n int
			return db.Get(&n, `select count(*) from orders`) == nil && n == want
		})
	}
	has(on(behind), 100)
	require.NoError(t, behind.Stop())
	insertPostgres(t, db)(50)
	p := newPipeline(t, on(read))
	p.ceiling = ceiling.None{}
	has(p.db, 150)
	require.NoError(t, p.poll())
	require.Len(t, p.tokens, 150)
	require.NoError(t, primary.Stop())
	require.NoError(t, behind.Start())
	p.db = on(behind)
	has(p.db, 100)
	run(t, p.db, `select pg_promote()`)
	insertPostgres(t, p.db)(400)
	run(t, p.db, `delete from orders where id <= 150`)
	p.restart()
	require.ErrorIs(t, p.poll(), sqlsource.ErrHistory)
}

// A standby follows a primary that was promoted, and that goes away. The standby then says the timeline of its last
// restart point, which is an older one.
func TestPostgresStandbyWithoutItsPrimary(t *testing.T) {
	t.Parallel()
	first := dbtest.StartPostgres(t)
	d := first.NewDatabase(t)
	run(t, d.Open(t, dbtest.PGX), `create table orders (id serial primary key, state int default 1)`, `insert into orders select from generate_series(1, 100)`)
	primary, standby := dbtest.StartStandby(t, first), dbtest.StartStandby(t, first)
	promoted, read := primary.Database(d.Name()).Open(t, dbtest.PGX), standby.Database(d.Name()).Open(t, dbtest.PGX)
	wait := func(db *sqlx.DB, want bool, condition string) {
		lab.WaitFor(t, func() bool {
			var is bool
			return db.Get(&is, `select `+condition) == nil && is == want
		})
	}
	wait(read, true, `count(*) = 100 from orders`)
	wait(promoted, true, `count(*) = 100 from orders`)
	require.NoError(t, first.Stop())
	run(t, promoted, `select pg_promote()`)
	run(t, read, fmt.Sprintf(`alter system set primary_conninfo = '%s'`, primary.Database("postgres").DSN(dbtest.PQ)), `select pg_reload_conf()`)
	wait(promoted, false, `pg_is_in_recovery()`)
	run(t, promoted, `insert into orders select from generate_series(1, 50)`)
	wait(read, true, `count(*) = 150 from orders`)
	wait(read, true, `exists (select from pg_stat_wal_receiver where received_tli = 2)`)
	p := newPipeline(t, read)
	p.column, p.ceiling = "id", ceiling.None{}
	require.NoError(t, p.poll())
	require.Contains(t, string(p.cursor), "/2/", "the timeline that the standby receives")
	run(t, promoted, `insert into orders select from generate_series(1, 10)`)
	wait(read, true, `count(*) = 160 from orders`)
	require.NoError(t, primary.Stop())
	wait(read, true, `not exists (select from pg_stat_wal_receiver where received_tli = 2)`)
	require.NoError(t, p.poll())
	require.Equal(t, 160, p.rows)
	require.Contains(t, string(p.cursor), "/2/")
}

// The marks of a table are found whatever its name is, and those of the table below a view.
func TestMariaDBMarks(t *testing.T) {
	t.Parallel()
	db := dbtest.MariaDB(t).NewDatabase(t).Open(t, dbtest.MySQL)
	for name, c := range map[string]struct{ table, read string }{
		"rare characters": {"order-items Ä#1", `"order-items Ä#1"`},
		"view":            {"below", "above"},
	} {
		quoted := "`" + c.table + "`"
		run(t, db, `create table `+quoted+` (id int auto_increment primary key, token varchar(40) default (uuid()), name varchar(40) default (uuid()), state int default (floor(rand() * 3)))`)
		fill := func(rows string) { run(t, db, `insert into `+quoted+` (id) select null from seq_1_to_`+rows) }
		fill("300")
		if name == "view" {
			run(t, db, `create view above as select * from below`)
		}
		p := newPipeline(t, db)
		p.table = &sqlsource.Table{DB: db, Name: c.read, Key: []string{"id"}, Logger: slog.New(slog.NewTextHandler(&p.log, nil))}
		require.NoError(t, p.poll(), name)
		require.Equal(t, 300, p.rows)
		run(t, db, `truncate `+quoted)
		fill("2000")
		require.ErrorIs(t, p.poll(), sqlsource.ErrHistory, "%s: %s", name, p.log.String())
	}
}
