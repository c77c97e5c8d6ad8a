package changelog

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/changelog"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// replica is a copy of a table to which changes are applied, by key.
type replica map[string]string

func (r replica) apply(c row.Change) {
	key := lab.RowJSON(c.Key)
	if c.Op == row.Truncate {
		clear(r)
		return
	}
	if c.Old.Columns() != nil {
		var at []int
		for i := range c.Key.Len() {
			at = append(at, c.Old.Columns().Index(c.Key.Columns().Name(i)))
		}
		if old := lab.RowJSON(row.Pick([]row.Row{c.Old}, at...)[0]); old != key {
			delete(r, old)
		}
	}
	if c.Op == row.Delete {
		delete(r, key)
		return
	}
	r[key] = lab.RowJSON(c.Row)
}

// follow applies all changes after a cursor, and returns the cursor.
func (r replica) follow(t testing.TB, table *changelog.Table, after source.Cursor) source.Cursor {
	t.Helper()
	for {
		b, err := lab.Fetch(t, table, after, 13)
		require.NoError(t, err)
		for _, c := range b.Records {
			r.apply(c)
		}
		after = b.To
		if !b.More && b.Held == nil {
			return after
		}
	}
}

// requireSame compares the copy with the table itself.
func (r replica) requireSame(t testing.TB, db *sqlx.DB, name string, key ...string) {
	t.Helper()
	plain := lab.Silent(db, name, key...)
	plain.Ceiling = ceiling.None{}
	b, err := lab.Fetch(t, plain, "", 100_000)
	require.NoError(t, err)
	want := replica{}
	for _, present := range b.Records {
		var at []int
		for _, k := range key {
			at = append(at, present.Columns().Index(k))
		}
		want[lab.RowJSON(row.Pick([]row.Row{present}, at...)[0])] = lab.RowJSON(present)
	}
	require.Equal(t, want, r)
}

// act is a random statement on the table nodes.
func act(r *rand.Rand, driver dbtest.Driver) string {
	id := func() int { return 1 + r.IntN(12) }
	parent := func() string {
		return fmt.Sprintf("(select min(p.id) from (select id from nodes where id < %d) as p)", id())
	}
	v, i := r.IntN(1000), id()
	acts := []string{
		fmt.Sprintf("insert into nodes (id, code, parent, v) values (%d, 'c%d', %s, %d)", i, r.IntN(15), parent(), v),
		fmt.Sprintf("insert into nodes (id, code, parent, v) values (%d, 'c%d', null, %d)", i, r.IntN(15), v),
		fmt.Sprintf("update nodes set v = %d where id %% 3 = %d", v, r.IntN(3)),
		fmt.Sprintf("update nodes set id = %d where id = %d", id(), i),
		fmt.Sprintf("update nodes set code = 'c%d', v = %d where id = %d", r.IntN(15), v, i),
		fmt.Sprintf("delete from nodes where id = %d", i),
		fmt.Sprintf("delete from nodes where id %% 4 = %d", r.IntN(4)),
		fmt.Sprintf("update nodes set id = id + %d", 20*r.IntN(2)-10),
	}
	switch {
	case lab.IsPostgres(driver):
		acts = append(acts, fmt.Sprintf("insert into nodes (id, code, v) values (%d, 'c%d', %d) on conflict (id) do update set v = excluded.v + 1, id = nodes.id + %d", i, r.IntN(15), v, r.IntN(2)),
			"update nodes set id = (select min(id) + max(id) from nodes) - id", "truncate nodes",
			fmt.Sprintf("with d as (delete from nodes where id = %d returning *) insert into nodes (id, code, v) select id + 30, code, v from d", i),
			fmt.Sprintf("with u as (update nodes set v = 0 where id = %d) delete from nodes where id = %d", i, id()))
	case lab.IsMariaDB(driver):
		acts = append(acts, fmt.Sprintf("replace into nodes (id, code, v) values (%d, 'c%d', %d)", i, r.IntN(15), v),
			fmt.Sprintf("insert into nodes (id, code, v) values (%d, 'c%d', %d) on duplicate key update v = v + 1, id = id + %d", i, r.IntN(15), v, r.IntN(2)),
			fmt.Sprintf("update ignore nodes set code = 'c%d', id = id + 1 where id > %d", r.IntN(15), i),
			fmt.Sprintf("update ignore nodes set code = 'c%d' where id > %d", r.IntN(15), i),
			fmt.Sprintf("insert ignore into leaves values (%d, %d)", i, id()), "delete from leaves",
			fmt.Sprintf("delete ignore from nodes where id > %d", i))
	default:
		acts = append(acts, fmt.Sprintf("insert or replace into nodes (id, code, v) values (%d, 'c%d', %d)", i, r.IntN(15), v),
			fmt.Sprintf("update or replace nodes set code = 'c%d', id = %d where id = %d", r.IntN(15), id(), i),
			fmt.Sprintf("insert or ignore into nodes (id, code, v) values (%d, 'c%d', %d)", i, r.IntN(15), v),
			fmt.Sprintf("update or ignore nodes set code = 'c%d' where id = %d", r.IntN(15), i),
			fmt.Sprintf("insert into nodes (id, code, v) values (%d, 'c%d', %d) on conflict (code) do update set v = v + 1, id = id + %d", i, r.IntN(15), v, r.IntN(2)))
	}
	return acts[r.IntN(len(acts))]
}

// nodes creates the table with foreign keys to itself, and triggers that write to it again.
func nodes(driver dbtest.Driver, exec func(string)) {
	switch {
	case lab.IsPostgres(driver):
		exec(`create table nodes (id int primary key deferrable initially immediate, code text, parent int, v int);
			alter table nodes add unique (code);`)
		exec(`create unique index nodes_id on nodes (id)`)
		exec(`alter table nodes add foreign key (parent) references nodes (id) on update cascade on delete cascade`)
	case lab.IsMariaDB(driver):
		exec(`create table nodes (id int primary key, code varchar(10) unique, parent int, v int, foreign key (parent) references nodes (id) on delete set null)`)
		exec(`create table leaves (id int primary key, node int, foreign key (node) references nodes (id))`)
	default:
		exec(`create table nodes (id integer primary key, code text unique, parent int references nodes (id) on update cascade on delete cascade, v int)`)
	}
}

// again adds triggers of the application that write to the same table.
func again(driver dbtest.Driver, name string, exec func(string)) {
	switch {
	case lab.IsPostgres(driver):
		exec(`create function ` + name + `_nodes() returns trigger language plpgsql as $$ begin
			update nodes set v = v + 1 where id = new.id and v % 7 = 3;
			delete from nodes where id = new.id and v % 7 = 5;
			return null; end $$`)
		exec(`create trigger ` + name + `_nodes after insert or update on nodes for each row execute function ` + name + `_nodes()`)
	case lab.IsMariaDB(driver): // a trigger cannot write to its own table
		exec(`create trigger ` + name + `_nodes before update on nodes for each row set new.v = new.v + 1`)
	default:
		for _, when := range []string{"insert", "update"} {
			exec(`create trigger ` + name + `_nodes` + when + ` after ` + when + ` on nodes begin update nodes set v = v + 1 where id = new.id and v % 7 = 3; delete from nodes where id = new.id and v % 7 = 5; end`)
		}
	}
}

// A copy to which the changes of random statements are applied equals the table.
func TestReplay(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		twin := strings.NewReplacer("nodes", "twins", "leaves", "twigs")
		both := func(s string) { db.MustExec(s); db.MustExec(twin.Replace(s)) }
		nodes(driver, both)
		again(driver, "aaa", both)
		table, keys := silent(db, "nodes"), silent(db, "nodes")
		keys.Changes, keys.KeysOnly = "nodes_keys", true
		if lab.IsPostgres(driver) {
			table.Key, keys.Key = []string{"id"}, []string{"id"}
		}
		reinstall(t, table)
		install(t, keys)
		again(driver, "zzz", both)
		if !lab.IsPostgres(driver) && !lab.IsMariaDB(driver) {
			db.SetMaxOpenConns(1)
			db.MustExec("pragma foreign_keys = on")
		}
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 1))
		copied, joined := replica{}, replica{}
		var at, atKeys source.Cursor
		var log []string
		for round := range *rounds {
			for range 1 + r.IntN(8) {
				s := act(r, driver)
				_, err := db.Exec(s)
				_, errTwin := db.Exec(twin.Replace(s))
				if err != nil {
					s += " -- " + err.Error()
				}
				log = append(log, s)
				require.Equal(t, errTwin == nil, err == nil, "seed %d: %s: the same without triggers: %v", seed, s, errTwin)
			}
			at, atKeys = copied.follow(t, table, at), joined.follow(t, keys, atKeys)
			func() {
				defer func() {
					if t.Failed() {
						t.Logf("seed %d, round %d, the last statements:\n%s", seed, round, strings.Join(log[max(0, len(log)-9):], "\n"))
					}
				}()
				copied.requireSame(t, db, "nodes", "id")
				joined.requireSame(t, db, "nodes", "id")
			}()
		}
	})
}
