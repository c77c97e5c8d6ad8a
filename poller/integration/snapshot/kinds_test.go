package snapshot

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/snapshot"
)

// kind is a table, and the expected result.
type kind struct {
	name   string
	create []string
	key    string // of a change, as JSON; "": none
	rows   int
}

// read creates the tables of all kinds and reads them in one snapshot.
func read(t *testing.T, db *sqlx.DB, kinds []kind, limit int) map[string][]row.Change {
	t.Helper()
	c := changesOf(t, db)
	for _, k := range kinds {
		for _, statement := range k.create {
			_, err := db.Exec(statement)
			require.NoError(t, err, statement)
		}
		c.Tables = append(c.Tables, snapshot.Table{Name: k.name})
	}
	all := map[string][]row.Change{}
	lab.ReadAll(t, c, "", limit, func(c row.Change) string {
		all[c.Table] = append(all[c.Table], c)
		return ""
	})
	for _, k := range kinds {
		shown := k.name
		if _, ok := all[shown]; !ok {
			shown = "public." + k.name
		}
		require.Len(t, all[shown], k.rows, k.name)
		if k.rows > 0 {
			key := ""
			if first := all[shown][0]; first.Key.Len() > 0 {
				key = lab.RowJSON(first.Key)
			}
			require.Equal(t, k.key, key, k.name)
		}
	}
	return all
}

func wide(driver dbtest.Driver, n int) []string {
	var columns, names []string
	typ, value := "text", "'v'"
	if lab.IsMariaDB(driver) {
		typ, value = "tinyint", "1" // of larger ones a row has no room
	}
	for i := range n {
		columns = append(columns, fmt.Sprintf("c%d %s", i, typ))
		names = append(names, value)
	}
	return []string{"create table wide (id integer primary key, " + strings.Join(columns, ", ") + ")", "insert into wide values (1, " + strings.Join(names, ", ") + ")",
		"create view wide_view as select * from wide"}
}

func TestKindsOfPostgres(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		kinds := []kind{
			{"number", []string{"create table number (id int primary key, v text)", "insert into number values (1, 'a'), (2, null), (3, 'c')"}, `{"id":1}`, 3},
			{"composite", []string{"create table composite (a text, b int, v text, primary key (b, a))", "insert into composite values ('ä', 1, 'x'), ('B', 1, 'y'), ('a', 2, 'z')"}, "", 3},
			{"uuids", []string{"create table uuids (id uuid primary key)", "insert into uuids select gen_random_uuid() from generate_series(1, 9)"}, "", 9},
			{"folded", []string{`create collation folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`, `create table folded (id text collate folded primary key)`, "insert into folded values ('a'), ('B'), ('c'), ('Z')"}, `{"id":"a"}`, 4},
			{"numbers", []string{"create table numbers (id numeric primary key)", "insert into numbers values (1.50), (-2), ('NaN'), (1e40)"}, `{"id":-2}`, 4},
			{"floats", []string{"create table floats (id float8 primary key)", "insert into floats values (0.1), ('NaN'), ('-Infinity'), (1e-300)"}, `{"id":"-Infinity"}`, 4},
			{"docs", []string{"create table docs (id jsonb primary key)", `insert into docs values ('{"a":1}'), ('2'), ('[]')`}, "", 3},
			{"times", []string{"create table times (id timestamptz primary key)", "insert into times values ('infinity'), ('2026-01-31 12:00+02'), ('0044-03-15 12:00 BC')"}, "", 3},
			{"second", []string{"create table second (a int, b int not null unique, c int unique)", "insert into second values (1, 7, null), (1, 8, null)"}, `{"b":7}`, 2},
			{"falling", []string{"create table falling (a int not null, b int not null)", "create unique index on falling (a, b desc)", "insert into falling values (1, 1), (1, 2)"}, "", 2},
			{"partial", []string{"create table partial (a int not null)", "create unique index on partial (a) where a > 1", "create unique index on partial ((a + 0))", "insert into partial values (1), (2)"}, "", 2},
			{"nullable", []string{"create table nullable (a int unique)", "insert into nullable values (1), (null), (null)"}, "", 3},
			{"nokey", []string{"create table nokey (a int)", "insert into nokey select 1 from generate_series(1, 5)"}, "", 5},
			{"nocolumns", []string{"create table nocolumns ()", "insert into nocolumns default values", "insert into nocolumns default values"}, "", 2},
			{"vacant", []string{"create table vacant (id int primary key)"}, "", 0},
			{"generated", []string{"create table generated (id int primary key, double int generated always as (id * 2) stored)", "insert into generated values (4)"}, `{"id":4}`, 1},
			{"partitioned", []string{"create table partitioned (id int, d int, primary key (d, id)) partition by list (d)", "create table partition_1 partition of partitioned for values in (1)", "create table partition_2 partition of partitioned for values in (2)", "insert into partitioned values (1, 2), (2, 1), (3, 2)"}, `{"d":1,"id":2}`, 3},
			{"parent", []string{"create table parent (id int primary key)", "create table child (more int) inherits (parent)", "insert into parent values (1)", "insert into child values (1, 2), (5, 2)"}, "", 3},
			{"child", nil, "", 2},
			{"unlogged", []string{"create unlogged table unlogged (id int primary key)", "insert into unlogged values (1)"}, `{"id":1}`, 1},
			{"viewed", []string{"create view viewed as select v, count(*) from number group by v"}, "", 3},
			{"materialized", []string{"create materialized view materialized as select * from number"}, "", 3},
			{`"a ""b"".c"`, []string{`create table "a ""b"".c" ("i d" int primary key, "or""der" text)`, `insert into "a ""b"".c" values (1, 'x')`}, `{"i d":1}`, 1},
			{"rewritten", []string{"create table rewritten (id int primary key, a int, b int)", "insert into rewritten values (1, 2, 3)", "alter table rewritten drop column a", "alter table rewritten add c text default 'new'"}, `{"id":1}`, 1},
			{"wide", append(wide(dbtest.PGX, 1000), "create table wide_nokey as select * from wide"), `{"id":1}`, 1},
			{"wide_nokey", nil, "", 1},
			{"typed", []string{"create type pair as (x int, y text)", "create domain small as int check (value < 100)", "create table typed (id small primary key, p pair, a int[], r int4range, i interval)", "insert into typed values (1, (1, 'a'), '{1,2}', '[1,3)', '1 day')"}, `{"id":1}`, 1},
		}
		for i, k := range kinds { // what is the first row depends on collations and types
			if k.key == "" && (k.name == "composite" || k.name == "uuids" || k.name == "docs" || k.name == "times") {
				kinds[i].key = "any"
			}
		}
		all := readAny(t, db, kinds)
		require.Equal(t, `{"id":1,"b":3,"c":"new"}`, lab.RowJSON(all["public.rewritten"][0].Row))
		require.Equal(t, `{"id":4,"double":8}`, lab.RowJSON(all["public.generated"][0].Row))
		require.Equal(t, `{}`, lab.RowJSON(all["public.nocolumns"][0].Row))
		require.Equal(t, row.Insert, all["public.nocolumns"][0].Op)
		require.Equal(t, row.Upsert, all["public.number"][0].Op)
		require.Equal(t, lab.RowJSON(all["public.wide"][0].Row), lab.RowJSON(all["public.wide_nokey"][0].Row))
	})
}

// readAny reads the tables with two limits, and replaces the key "any" by that of the first row.
func readAny(t *testing.T, db *sqlx.DB, kinds []kind) map[string][]row.Change {
	t.Helper()
	plain := make([]kind, len(kinds))
	copy(plain, kinds)
	for i, k := range kinds {
		for _, statement := range k.create {
			_, err := db.Exec(statement)
			require.NoError(t, err, statement)
		}
		plain[i].create = nil
	}
	for i, k := range plain {
		if k.key == "any" {
			c := changesOf(t, db, k.name)
			b, err := lab.Fetch(t, c, "", 1)
			require.NoError(t, err)
			require.NoError(t, c.Close())
			require.NotZero(t, b.Records[0].Key.Len(), k.name)
			plain[i].key = lab.RowJSON(b.Records[0].Key)
		}
	}
	read(t, db, plain, 2)
	return read(t, db, plain, 1000)
}

func TestKindsOfMariaDB(t *testing.T) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.MySQL, dbtest.MySQLText} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			db := lab.DatabaseFor(t, driver).Open(t, driver)
			kinds := []kind{
				{"number", []string{"create table number (id int primary key, v text)", "insert into number values (1, 'a'), (2, null), (3, 'c')"}, `{"id":1}`, 3},
				{"composite", []string{"create table composite (a varchar(9), b int, v text, primary key (b, a))", "insert into composite values ('ä', 1, 'x'), ('B', 1, 'y'), ('a', 2, 'z')"}, "any", 3},
				{"bins", []string{"create table bins (id binary(16) primary key)", "insert into bins values (x'01'), (x'ff01'), (x'ff')"}, "any", 3},
				{"enums", []string{"create table enums (id enum('z', 'a') primary key)", "insert into enums values ('a'), ('z')"}, "any", 2},
				{"floats", []string{"create table floats (id float primary key)", "insert into floats values (0.1), (1.5), (3e10)"}, "any", 3},
				{"times", []string{"create table times (id timestamp(6) primary key)", "insert into times values ('2026-01-31 12:00:00.5'), ('2026-01-31 12:00:00')"}, "any", 2},
				{"prefixed", []string{"create table prefixed (a varchar(200) not null, unique (a(5)))", "insert into prefixed values ('aaaaa1'), ('b')"}, "", 2},
				{"second", []string{"create table second (a int, b int not null unique, c int unique)", "insert into second values (1, 7, null), (1, 8, null)"}, `{"b":7}`, 2},
				{"nullable", []string{"create table nullable (a int unique)", "insert into nullable values (1), (null), (null)"}, "", 3},
				{"nokey", []string{"create table nokey (a int)", "insert into nokey values (1), (1), (1)"}, "", 3},
				{"vacant", []string{"create table vacant (id int primary key)"}, "", 0},
				{"generated", []string{"create table generated (id int primary key, twice int as (id * 2) virtual, hidden int invisible)", "insert into generated (id) values (4)"}, `{"id":4}`, 1},
				{"partitioned", []string{"create table partitioned (id int, d int, primary key (d, id)) partition by hash (d) partitions 3", "insert into partitioned values (1, 2), (2, 1), (3, 2)"}, `{"d":1,"id":2}`, 3},
				{"isam", []string{"create table isam (id int primary key) engine=MyISAM", "insert into isam values (1), (2)"}, `{"id":1}`, 2},
				{"mem", []string{"create table mem (id int primary key) engine=MEMORY", "insert into mem values (1), (2)"}, "", 2},
				{"aria", []string{"create table aria (a int) engine=Aria transactional=0", "insert into aria values (1), (2)"}, "", 2},
				{"viewed", []string{"create view viewed as select v, count(*) from number group by v"}, "", 3},
				{`"a ""b"" c"`, []string{"create table `a \"b\" c` (`i d` int primary key, `or``der` text)", "insert into `a \"b\" c` values (1, 'x')"}, `{"i d":1}`, 1},
				{"versioned", []string{"create table versioned (id int primary key) with system versioning", "insert into versioned values (1), (2)", "delete from versioned where id = 2"}, `{"id":1}`, 1},
				{"wide", wide(driver, 1000), `{"id":1}`, 1},
				{"wide_view", nil, "", 1},
			}
			all := readAny(t, db, kinds)
			require.Equal(t, `{"id":4,"twice":8,"hidden":null}`, lab.RowJSON(all["generated"][0].Row))

			var log strings.Builder
			c := changesOf(t, db, "number", "isam", "mem", "aria")
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
			b, err := lab.Fetch(t, c, "", 10)
			require.NoError(t, err)
			require.Contains(t, b.Guarantee.Text, "isam (MyISAM), mem (MEMORY), aria (Aria)")
			require.Regexp(t, `level=WARN msg="snapshot begun"`, log.String())
		})
	}
}

func TestKindsOfSQLite(t *testing.T) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.Modernc, dbtest.NCruces} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			db := lab.DatabaseFor(t, driver).Open(t, driver)
			kinds := []kind{
				{"number", []string{"create table number (id integer primary key, v text)", "insert into number values (1, 'a'), (2, null), (3, 'c')"}, `{"id":1}`, 3},
				{"without", []string{"create table without (a text, b int, v, primary key (b desc, a)) without rowid", "insert into without values ('x', 1, 2), ('y', 1, 3)"}, "any", 2},
				{"mixed", []string{"create table mixed (a primary key) without rowid", "insert into mixed values (1), ('1'), (x'31'), (2.5)"}, "any", 4},
				{"texts", []string{"create table texts (id text primary key)", "insert into texts values ('a'), (null), (null)"}, "", 3},
				{"nokey", []string{"create table nokey (a)", "insert into nokey values (1), (1), (null)"}, "", 3},
				{"named", []string{"create table named (rowid text, oid text, _rowid_ text)", "insert into named values (1, 2, 3)"}, "", 1},
				{"generated", []string{"create table generated (id integer primary key, twice as (id * 2))", "insert into generated values (4)"}, `{"id":4}`, 1},
				{"viewed", []string{"create view viewed as select v, count(*) from number group by v"}, "", 3},
				{`"a ""b"" c"`, []string{`create table "a ""b"" c" ("i d" integer primary key)`, `insert into "a ""b"" c" values (1)`}, `{"i d":1}`, 1},
				{"wide", wide(driver, 1000), `{"id":1}`, 1},
				{"wide_view", nil, "", 1},
			}
			if driver == dbtest.Modernc { // the other has no modules of virtual tables
				kinds = append(kinds, kind{"words", []string{"create virtual table words using fts5(body)", "insert into words values ('one'), ('two')"}, "", 2})
			}
			readAny(t, db, kinds)
		})
	}
}
