package histories

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

const createMariaDB = `create table orders (id int auto_increment primary key, token varchar(40) not null default (uuid()), state varchar(20) not null default 'new', total int not null default (floor(rand() * 1000)), at timestamp(6) not null default current_timestamp(6))`

func insertMariaDB(t *testing.T, db *sqlx.DB) func(int) {
	return func(n int) {
		run(t, db, fmt.Sprintf(`insert into orders (state, total) select 'new', floor(rand() * 1000) from seq_1_to_%d`, max(n, 1)))
	}
}

func TestMariaDBActs(t *testing.T) {
	t.Parallel()
	const fill = ` | insert into orders (state, total) select 'other', 1000 + seq from seq_1_to_2000`
	const swap = ` | rename table orders to old, fresh to orders`
	for n, act := range []struct {
		name, do string
		want     outcome
	}{
		{"truncated and filled", `truncate orders` + fill, refused},
		{"truncated", `truncate orders`, refused},
		{"emptied, counter set back, filled", `delete from orders | alter table orders auto_increment = 1` + fill, noticed}, // the time of creation is known to a second
		{"drop and create", `drop table orders | ` + createMariaDB + fill, refused},
		{"rename swap with other rows", `create table fresh like orders | insert into fresh (state, total) select 'other', 1000 + seq from seq_1_to_2000` + swap, refused},
		{"rename swap with the same rows", `create table fresh like orders | insert into fresh select * from orders` + swap, continues},
		{"dump and restore", `create table keep as select * from orders | drop table orders | ` + createMariaDB + ` | insert into orders select * from keep`, continues},
		{"an older dump, filled", `create table keep as select * from orders where id < 200 | drop table orders | ` + createMariaDB + ` | insert into orders select * from keep` + fill, refused},
		{"int to bigint", `alter table orders modify id bigint auto_increment`, continues},
		{"all rows updated, rebuilt", `update orders set state = 'done', total = total + 1 | optimize table orders | alter table orders force`, continues},
		{"pruned, rebuilt", `delete from orders where id <= 300 | optimize table orders`, continues},
		{"columns", `alter table orders add note text default 'x' | alter table orders drop total | alter table orders add total int not null default 1 | alter table orders rename column state to status | alter table orders rename column status to state`, continues},
	} {
		for _, restarted := range restarts(n) {
			t.Run(fmt.Sprint(act.name, restarted), func(t *testing.T) {
				t.Parallel()
				db := dbtest.MariaDB(t).NewDatabase(t).Open(t, dbtest.MySQL)
				run(t, db, createMariaDB)
				insert := insertMariaDB(t, db)
				all := newPipelines(t, db)
				insert(300)
				all.poll()
				run(t, db, strings.Split(act.do, " | ")...)
				if restarted {
					all.restart(db)
				}
				all.check(act.want, "", insert)
			})
		}
	}
}

// After TRUNCATE adopting the cursor would lose rows, whatever the ceiling: neither is it advised, nor does it work.
func TestMariaDBTruncatedAndAdopted(t *testing.T) {
	t.Parallel()
	for _, c := range ceilings {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			db := dbtest.MariaDB(t).NewDatabase(t).Open(t, dbtest.MySQL)
			run(t, db, createMariaDB)
			insert := insertMariaDB(t, db)
			insert(300)
			p := newPipeline(t, db)
			p.ceiling = c
			require.NoError(t, p.poll())
			run(t, db, `truncate orders`)
			insert(50)
			for range 2 {
				err := p.poll()
				require.ErrorIs(t, err, sqlsource.ErrHistory)
				require.NotContains(t, err.Error(), "adopt")
				p.cursor, err = p.table.Adopt(p.cursor)
				require.NoError(t, err)
				require.NoError(t, p.copy.Rewind(p.cursor))
				p.restart()
			}
		})
	}
}
