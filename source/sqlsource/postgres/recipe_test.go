package postgres

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

func ordersTable() (*table, ceiling.Table) {
	p := &table{oid: 7, kind: "r", version: 150000, columns: []column{{name: "id", typ: "uuid"}}}
	p.tree = []member{{oid: 7, name: `public.orders`, schema: "public", relation: "orders", kind: "r", keyType: "uuid", found: true}}
	return p, ceiling.Table{SQL: Dialect{}, Label: "orders", Name: `"orders"`, Key: []ceiling.Column{{Name: "id", Quoted: `"id"`, Ref: `t."id"`}}}
}

func TestRecipeStatements(t *testing.T) {
	t.Parallel()
	p, target := ordersTable()
	require.Equal(t, []string{
		`BEGIN;`,
		`SET LOCAL lock_timeout = '2s';`,
		`ALTER TABLE public.orders ADD COLUMN IF NOT EXISTS "_tx" xid8 NOT NULL DEFAULT pg_current_xact_id();`,
		`CREATE OR REPLACE FUNCTION "public"."zz_devotion_orders_tx"() RETURNS trigger LANGUAGE plpgsql AS ' BEGIN NEW."_tx" := pg_catalog.pg_current_xact_id(); RETURN NEW; END ';`,
		`DROP TRIGGER IF EXISTS "zz_devotion_orders_tx" ON public.orders;`,
		`CREATE TRIGGER "zz_devotion_orders_tx" BEFORE INSERT OR UPDATE ON public.orders FOR EACH ROW EXECUTE FUNCTION "public"."zz_devotion_orders_tx"();`,
		`COMMIT;`,
		`CREATE INDEX CONCURRENTLY IF NOT EXISTS "zz_devotion_orders_tx_id_642e00dd" ON public.orders ("_tx", "id");`,
	}, txRecipe.statements(p, target, "_tx", true, true))
	require.NotContains(t, strings.Join(txRecipe.statements(p, target, "_tx", true, false), ""), "TRIGGER")
	stamp := strings.Join(stampRecipe.statements(p, target, "_at", true, true), "\n")
	require.Contains(t, stamp, `"_at" timestamp with time zone NOT NULL DEFAULT now();`, "a volatile default would rewrite the table")
	require.Contains(t, stamp, `ALTER COLUMN "_at" SET DEFAULT clock_timestamp();`)
}

// What a name contains is never taken for a placeholder, nor for the end of a quote.
func TestRecipeOfAnOddName(t *testing.T) {
	t.Parallel()
	p, target := ordersTable()
	p.tree[0].relation = `{key}"; DROP TABLE x; --`
	for _, s := range txRecipe.statements(p, target, "_tx", true, true) {
		if strings.Contains(s, "zz_devotion") {
			require.Contains(t, s, `"zz_devotion_{key}""; DROP TABLE x; --_tx`)
		}
	}
	names := map[string]bool{}
	for _, of := range [][]string{{"orders", "item_id"}, {"orders_item", "id"}, {"orders_item", "_id"}, {"orders", "item", "id"}} {
		p.tree[0].relation = of[0]
		var key []ceiling.Column
		for _, name := range of[1:] {
			key = append(key, ceiling.Column{Name: name, Quoted: quote(name)})
		}
		name, _, _ := strings.Cut(p.createIndex(p.tree[0], key), " ON ")
		names[name] = true
	}
	require.Len(t, names, 4, "an index of another table or key has another name, or IF NOT EXISTS would skip it")
	p.tree[0].relation = strings.Repeat("ä", 30)
	require.Equal(t, "zz_devotion_7_8d2cf563", objectName(p.tree[0], "_tx"))
	require.NotEqual(t, objectName(p.tree[0], "_tx"), objectName(p.tree[0], "_tx_id"))
}

// A user's column is never used, and the recipe's own is used again.
func TestRecipeColumn(t *testing.T) {
	t.Parallel()
	p, target := ordersTable()
	p.columns = append(p.columns, column{name: "_tx", typ: "text"})
	name, exists := txRecipe.free(p)
	require.Equal(t, "_tx2", name)
	require.False(t, exists)
	p.columns = append(p.columns, column{name: "_tx2", typ: "xid8", expr: "pg_catalog.pg_current_xact_id()"})
	name, exists = txRecipe.free(p)
	require.Equal(t, "_tx2", name)
	require.True(t, exists)
	require.Contains(t, txRecipe.remedy(p, target, true).Words, "read by the column _tx2, which the table already has; then set Key to _tx2, id.")
	p.version = 120000
	require.Contains(t, p.remedies(target, false)[0].Words, "upgrade to Postgres 13")
	require.Empty(t, p.remedies(target, false)[0].Statements)
}

// No trigger is put on a user's column, whatever its default. One recipe does not take over
// the functions, triggers and indexes of another.
func TestRecipeLeavesUsersColumnsAlone(t *testing.T) {
	t.Parallel()
	p, target := ordersTable()
	for _, name := range []string{"created_at", "_at"} {
		p.columns = append(p.columns, column{name: name, typ: "timestamp with time zone", expr: "clock_timestamp()"})
	}
	target.Key = append([]ceiling.Column{{Name: "created_at", Quoted: `"created_at"`}}, target.Key...)
	list := strings.Join(p.resetRemedies(target, stampRecipe)[0].Statements, "\n")
	require.NotContains(t, list, "created_at")
	require.Contains(t, list, `NEW."_at" :=`)
	target.Key[0].Name = "_at"
	list = strings.Join(p.resetRemedies(target, stampRecipe)[0].Statements, "\n")
	require.Contains(t, list, `NEW."_at" :=`)
	require.NotContains(t, list, "ADD COLUMN")

	seen := map[string]bool{}
	for _, purpose := range []string{"_tx", "_at", "_tx2", "_tx_id", "_tx_created_at_id"} {
		name := objectName(p.tree[0], purpose)
		require.False(t, seen[name], name)
		seen[name] = true
	}
}

func TestAssumptions(t *testing.T) {
	t.Parallel()
	var r ceiling.Report
	var a assumptions
	for _, name := range []string{"a", "a", "b", "c"} { // a has a clone
		a.add(&r, trigger{name: name, table: "orders", insert: true}, nil, "careful")
	}
	require.Equal(t, []string{"a on orders", "b on orders", "c on orders"}, a.names)
	require.Len(t, r.Findings, 3)
	require.Equal(t, ceiling.Warning, r.Findings[0].Level)
}
