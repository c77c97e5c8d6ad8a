package changelog

import (
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/changelog"
	"github.com/artifactofdevotion/devotion/source/row"
)

// A key that becomes longer is recorded in its full length before the script runs.
func TestLongerKeyMariaDB(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.MySQL).Open(t, dbtest.MySQL)
	db.MustExec(`create table codes (k varchar(10) primary key, v int)`)
	table := silent(db, "codes")
	install(t, table)
	db.MustExec(`insert into codes values ('abcdefghij', 1)`)
	_, at := read(t, table, "")
	db.MustExec(`alter table codes modify k varchar(20)`)
	db.MustExec(`insert into codes values ('abcdefghijklmn', 2)`)
	db.MustExec(`delete from codes where v = 2`)
	require.NoError(t, table.Check(t.Context()))
	got, _ := read(t, table, at)
	require.Equal(t, []string{`insert {"k":"abcdefghijklmn"} row{"k":"abcdefghijklmn","v":2}`, `delete {"k":"abcdefghijklmn"} old{"k":"abcdefghijklmn","v":2}`}, got)
}

// A key of which the change table does not take the new values is a gap from the first change that was not read, also if
// the script ends early.
func TestRetypedKeyMariaDB(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.MySQL).Open(t, dbtest.MySQL)
	db.MustExec(`create table codes (k enum('a', 'b') primary key, v int)`)
	table := silent(db, "codes")
	install(t, table)
	db.MustExec(`insert into codes values ('b', 1)`)
	_, at := read(t, table, "")
	db.MustExec(`alter table codes modify k enum('a', 'b', 'c')`)
	db.MustExec(`insert into codes values ('c', 2)`) // which is recorded as ''
	script, err := table.Script(t.Context())
	require.NoError(t, err)
	for _, s := range script {
		if strings.HasPrefix(s, "LOCK") {
			break
		}
		db.MustExec(s)
	}
	var wrong *changelog.InstallError
	require.ErrorAs(t, table.Check(t.Context()), &wrong)
	_, err = lab.Fetch(t, table, at, 10)
	require.ErrorAs(t, err, &wrong)
	install(t, table)
	_, err = lab.Fetch(t, table, at, 10)
	require.ErrorIs(t, err, changelog.ErrGap)
	lab.RequirePermanent(t, err, "the key had another name or type")
	at, err = table.Adopt(t.Context(), at)
	require.NoError(t, err)
	db.MustExec(`update codes set v = 3 where v = 2`)
	got, _ := read(t, table, at)
	require.Equal(t, []string{`update {"k":"c"} row{"k":"c","v":3} old{"k":"c","v":2}`}, got)
}

// Changes that were recorded by another name of the key are not delivered without it.
func TestRenamedKey(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		table := orders(t, driver, db)
		db.MustExec(`insert into orders (v) values ('d')`)
		_, at := read(t, table, "")
		db.MustExec(`insert into orders (v) values ('e')`)
		db.MustExec(`alter table orders rename column id to number`)
		db.MustExec(`update orders set v = 'f' where v = 'e'`)
		renamed := silent(db, "orders")
		install(t, renamed)
		_, err := lab.Fetch(t, renamed, at, 10)
		require.ErrorIs(t, err, changelog.ErrGap)
		untilGap(t, silent(db, "orders"), "", nil)
		db.MustExec(`update orders set v = 'g' where v = 'f'`)
		at, err = renamed.Adopt(t.Context(), at)
		require.NoError(t, err)
		got, _ := read(t, renamed, at)
		require.Len(t, got, 1)
		require.Contains(t, got[0], `{"number":5} row{"number":5,"v":"g"}`)
		loaded := silent(db, "orders")
		loaded.Load = true
		copied := replica{}
		copied.follow(t, loaded, "")
		copied.requireSame(t, db, "orders", "number")
	})
}

// A cursor before the first change may skip the first start of recording only.
func TestSecondStart(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.PGX).Open(t, dbtest.PGX)
	things(db)
	table := silent(db, "things")
	install(t, table)
	db.MustExec(`alter table things rename id to number`)
	db.MustExec(`insert into things values (71)`)
	table = silent(db, "things")
	install(t, table)
	for _, limit := range []int{1, 10} {
		b, err := lab.Fetch(t, table, "", limit)
		require.NoError(t, err)
		require.Empty(t, b.Records)
		_, err = lab.Fetch(t, table, b.To, limit)
		require.ErrorIs(t, err, changelog.ErrGap)
	}
}

// A key that gets another text, which the database finds equal, is another key for a copy, also where rows are looked up.
func TestEqualKeys(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		follow := func(name, key string, keysOnly bool, before, after []string) {
			for _, s := range before {
				db.MustExec(s)
			}
			table := silent(db, name)
			table.Load, table.KeysOnly = true, keysOnly
			install(t, table)
			copied := replica{}
			at := copied.follow(t, table, "")
			require.Len(t, copied, 1)
			for _, s := range after {
				db.MustExec(s)
			}
			table = silent(db, name)
			table.KeysOnly = keysOnly
			install(t, table)
			b, err := lab.Fetch(t, table, at, 100)
			require.NoError(t, err)
			require.Equal(t, row.Upsert, b.Records[len(b.Records)-1].Op, "for a sink that finds the keys equal")
			copied.follow(t, table, at)
			copied.requireSame(t, db, name, key)
		}
		switch {
		case lab.IsPostgres(driver):
			follow("n", "k", false, []string{`create table n (k numeric primary key, v int)`, `insert into n values (1.0, 1)`}, []string{`alter table n alter v type text`, `update n set k = 1.00`})
			follow("i", "k", false, []string{`create table i (k interval primary key, v int)`, `insert into i values ('1 day', 1)`}, []string{`alter table i alter v type text`, `update i set k = '24:00'`})
			follow("p", "k", false, []string{`create table p (k numeric primary key, v int) partition by range (k); create table p1 partition of p default`, `insert into p values (1.0, 1)`}, []string{`alter table p alter v type text`, `update p set k = 1.00`})
			follow("s", "k", false, []string{`create table s (k interval primary key, v int)`, `insert into s values ('1 day', 1)`}, []string{`begin; set local devotion.nested = 'on'; update s set k = '24:00'; commit`})
		case lab.IsMariaDB(driver):
			follow("m", "code", false, []string{`create table m (code varchar(10) primary key, w int)`, `insert into m values ('a', 1)`}, []string{`alter table m rename column w to x`, `update m set code = 'A'`})
			cascade := []string{`insert into pNAME values ('a')`, `insert into NAME values ('a', 1)`}
			for _, keysOnly := range []bool{false, true} {
				name := map[bool]string{false: "c", true: "ck"}[keysOnly]
				before := []string{`create table p` + name + ` (code varchar(10) primary key)`, `create table ` + name + ` (code varchar(10) primary key, n int, foreign key (code) references p` + name + ` (code) on update cascade)`}
				for _, s := range cascade {
					before = append(before, strings.ReplaceAll(s, "NAME", name))
				}
				follow(name, "code", keysOnly, before, []string{`update p` + name + ` set code = 'A'`})
			}
		default:
			follow("k", "code", true, []string{`create table k (code text collate nocase primary key, v int)`, `insert into k values ('a', 1)`}, []string{`update k set v = 2`, `update k set code = 'A'`})
		}
	})
}
