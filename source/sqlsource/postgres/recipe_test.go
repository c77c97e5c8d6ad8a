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

// An index of another table or key has another name, or IF NOT EXISTS would skip it. What a name
// contains never ends a quote.
func TestIndexNames(t *testing.T) {
	t.Parallel()
	p, _ := ordersTable()
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
	require.Len(t, names, 4)
	p.tree[0].relation = `{key}"; DROP TABLE x; --`
	require.Contains(t, p.createIndex(p.tree[0], []ceiling.Column{{Name: "id", Quoted: `"id"`}}), `"zz_devotion_{key}""; DROP TABLE x; --_id_`)
	p.tree[0].relation = strings.Repeat("ä", 30)
	require.Equal(t, "zz_devotion_7_8d2cf563", objectName(p.tree[0], "_tx"))
	require.NotEqual(t, objectName(p.tree[0], "_tx"), objectName(p.tree[0], "_tx_id"))
}

// The means that are offered in place of a ceiling touch no column.
func TestOtherMeansHaveNoStatements(t *testing.T) {
	t.Parallel()
	_, target := ordersTable()
	for _, r := range otherMeans(target) {
		require.Empty(t, r.Statements, r.Words)
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
