package postgres

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// Unsafe tables are refused at the first Fetch. If the error contains statements to run,
// they make the table safe.
func TestUnsafePostgres(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`create sequence other; create sequence cached cache 50; create sequence unlogged_ids`)
		for name, c := range map[string]struct {
			table  string
			key    string
			reason string
			fix    string // the statement in the error; "" if the error has no fix; "-" if the fix needs more than a statement
		}{
			"cache":          {`(id bigint primary key default nextval('cached'))`, "id", `CACHE 50`, `ALTER SEQUENCE public.cached CACHE 1;`},
			"identity cache": {`(id bigint generated always as identity (cache 20) primary key)`, "id", `CACHE 20`, `ALTER SEQUENCE public.orders_id_seq CACHE 1;`},
			"increment":      {`(id bigint generated always as identity (increment 2) primary key)`, "id", `INCREMENT 2`, "-"},
			"backwards":      {`(id bigint generated always as identity (increment -1) primary key)`, "id", `INCREMENT -1`, "-"},
			"cycle":          {`(id bigint generated always as identity (cycle) primary key)`, "id", `CYCLE: it would begin again`, `ALTER SEQUENCE public.orders_id_seq NO CYCLE;`},
			"client":         {`(id bigint primary key)`, "id", `no sequence draws "id"`, "-"},
			"expression":     {`(id bigint primary key default nextval('other') * 2)`, "id", `not simply the next value`, "-"},
			"uuid":           {`(id uuid primary key default gen_random_uuid())`, "id", `of the type uuid`, "-"},
			"text":           {`(id text primary key)`, "id", `of the type text`, "-"},
			"second column":  {`(id bigint generated always as identity, kind int, primary key (kind, id))`, "kind,id", `no sequence draws "kind"`, "-for inserted rows, set Key to id, kind: a sequence draws \"id\""},
			"text before":    {`(id bigserial, tenant text, primary key (tenant, id))`, "tenant,id", `of the type text`, "-for inserted rows, set Key to id, tenant"},
			"text of a draw": {`(id text primary key default 'A' || nextval('other'))`, "id", `of the type text`, "-"},
			"now":            {`(id bigint primary key, at timestamptz default now())`, "at,id", `begins with "at"`, "-"},
			"current":        {`(id bigint primary key, at timestamptz default current_timestamp)`, "at,id", `begins with "at"`, "-"},
			"client's time":  {`(id bigint primary key, at timestamptz)`, "at,id", `begins with "at"`, "-"},
			"local time":     {`(id bigint primary key, at timestamp default clock_timestamp())`, "at,id", `begins with "at" of the type timestamp without time zone`, "-"},
			"tx alone":       {`(id bigint primary key, tx xid8 default pg_current_xact_id())`, "tx", `several rows can have the same "tx"`, "-"},
			"tx by clients":  {`(id bigint primary key, tx xid8)`, "tx,id", `has no default pg_current_xact_id()`, "-"},
			"tx of another":  {`(id bigint primary key, tx xid8 default '7')`, "tx,id", `the default of "tx"`, "-"},
			"unlogged":       {`unlogged`, "id", `is unlogged`, `ALTER TABLE public.orders SET LOGGED;`},
			"row security":   {`rls`, "id", ``, ""},
		} {
			t.Run(name, func(t *testing.T) {
				defer db.MustExec(`drop table orders`)
				switch {
				case c.table == "unlogged":
					db.MustExec(`create unlogged table orders (id bigint primary key default nextval('unlogged_ids'))`)
				case c.table == "rls":
					db.MustExec(lab.Identity + `; alter table orders enable row level security, force row level security`)
					return // row security does not apply to a superuser, see TestUnsafePostgresRelations
				default:
					db.MustExec(`create table orders ` + c.table)
				}
				r := follow(t, db, strings.Split(c.key, ",")...)
				err := r.fails()
				require.Equal(t, retry.Fatal, retry.Classify(err))
				require.ErrorContains(t, err, c.reason)
				require.NotContains(t, err.Error(), "lossy ceiling")
				var unsafe *ceiling.UnsafeError
				require.ErrorAs(t, err, &unsafe)
				require.True(t, unsafe.Report.Lossy)
				for _, f := range unsafe.Report.Findings {
					if f.Level == ceiling.Unsafe {
						require.NotEmpty(t, f.Remedies, f.Text)
					}
				}
				require.Contains(t, err.Error(), strings.TrimPrefix(c.fix, "-"))

				r = follow(t, db, strings.Split(c.key, ",")...)
				r.table.Ceiling = ceiling.None{} // an explicit choice is accepted
				require.Empty(t, r.next())

				if !strings.HasPrefix(c.fix, "-") {
					db.MustExec(c.fix)
					require.Empty(t, follow(t, db, strings.Split(c.key, ",")...).next())
				}
			})
		}
	})
}

func TestUnsafePostgresRelations(t *testing.T) {
	t.Parallel()
	database := dbtest.Postgres(t).NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	db.MustExec(lab.Identity)

	t.Run("view", func(t *testing.T) {
		db.MustExec(`create view recent as select distinct * from orders`)
		r := follow(t, db, "id")
		r.table.Name = "recent"
		err := r.fails()
		require.ErrorContains(t, err, "recent is a view")
		require.ErrorContains(t, err, `with Table set to the one of orders that has the key`)
		type order struct {
			ID int64
			V  *string
		}
		q := &sqlsource.Query[order]{DB: db, Select: `SELECT * FROM recent`, Key: []string{"id"}, Table: "orders"}
		_, err = q.Fetch(t.Context(), "", 10)
		require.NoError(t, err)
		q = &sqlsource.Query[order]{DB: db, Select: `SELECT * FROM recent`, Key: []string{"id"}}
		_, err = q.Fetch(t.Context(), "", 10)
		require.ErrorContains(t, err, "no table is named")
	})
	t.Run("materialized view", func(t *testing.T) {
		db.MustExec(`create materialized view totals as select * from orders`)
		r := follow(t, db, "id")
		r.table.Name = "totals"
		require.ErrorContains(t, r.fails(), "materialized view")
	})
	t.Run("sequence", func(t *testing.T) {
		for _, by := range []ceiling.Ceiling{postgres.LockFence{}, postgres.TransactionID{}, postgres.Stamp{}} {
			_, err := by.Open(t.Context(), db.DB, ceilingTable("orders_id_seq", "last_value", "log_cnt"))
			require.ErrorContains(t, err, "orders_id_seq is not a table")
		}
	})
	t.Run("row security", func(t *testing.T) {
		plain := roleOf(t, database, db, `grant select on orders`)
		defer db.MustExec(`alter table orders disable row level security`)
		db.MustExec(`alter table orders enable row level security`)
		require.ErrorContains(t, follow(t, plain, "id").fails(), "row-level security applies to this role")
		require.Empty(t, follow(t, db, "id").next(), "it does not apply to the owner")
	})
	t.Run("no such table", func(t *testing.T) {
		r := follow(t, db, "id")
		r.table.Name = "nothing"
		require.Equal(t, retry.Setup, retry.Classify(r.fails()))
	})
	t.Run("subscriber", func(t *testing.T) {
		db.MustExec(`create subscription none connection 'dbname=nowhere' publication none with (connect = false)`)
		defer db.MustExec(`alter subscription none disable; alter subscription none set (slot_name = none); drop subscription none`)
		db.MustExec(`insert into pg_subscription_rel (srsubid, srrelid, srsubstate) select s.oid, 'orders'::regclass, 'r' from pg_subscription s where subname = 'none'`)
		require.ErrorContains(t, follow(t, db, "id").fails(), "filled by logical replication")
	})
	t.Run("foreign partition", func(t *testing.T) {
		db.MustExec(`create extension postgres_fdw; create server far foreign data wrapper postgres_fdw;
			create table parted (id bigint generated by default as identity, day int) partition by list (day);
			create foreign table far_part partition of parted for values in (1) server far`)
		r := follow(t, db, "id")
		r.table.Name = "parted"
		require.ErrorContains(t, r.fails(), "the partition public.far_part is a foreign table")
	})
	t.Run("two sequences", func(t *testing.T) {
		db.MustExec(`create sequence one; create sequence two;
			create table twice (id bigint default nextval('one'), day int) partition by list (day);
			create table twice_1 partition of twice (id default nextval('two')) for values in (1)`)
		r := follow(t, db, "id")
		r.table.Name = "twice"
		require.ErrorContains(t, r.fails(), `drawn by several sequences: public.one, public.two`)
	})
	t.Run("trigger that may set the key", func(t *testing.T) {
		db.MustExec(`create function from_elsewhere() returns trigger language plpgsql as $$ begin new.id := 7; return new; end $$;
			create trigger elsewhere before insert on orders for each row execute function from_elsewhere()`)
		defer db.MustExec(`drop trigger elsewhere on orders`)
		r := guard(t, db, "orders", defaultCeiling{}, "id").Report()
		require.Contains(t, r.Guarantee, `as long as the trigger elsewhere on orders leaves "id" alone`)
		require.Equal(t, ceiling.Warning, findingWith(t, r, "the trigger elsewhere on orders").Level)
	})
}

// One log line at the start states the guarantee and its reason.
func TestGuaranteeIsLogged(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(lab.Identity)
	var out bytes.Buffer
	r := follow(t, db, "id")
	r.table.Logger = slog.New(slog.NewTextHandler(&out, nil))
	r.next()
	r.next()
	require.Equal(t, 1, strings.Count(out.String(), "\n"), out.String())
	require.Regexp(t, `level=INFO msg=guarantee table=orders ceiling=lock-fence guarantee="every row is read once it is committed, in the order of .*orders_id_seq`, out.String())

	out.Reset()
	r = follow(t, db, "id")
	r.table.Logger, r.table.Ceiling = slog.New(slog.NewTextHandler(&out, nil)), ceiling.None{}
	r.next()
	require.Contains(t, out.String(), `level=WARN msg=guarantee table=orders ceiling=none guarantee="no row is missed if a single writer`)
}
