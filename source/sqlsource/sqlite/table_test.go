package sqlite

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

func TestRecipe(t *testing.T) {
	t.Parallel()
	p := &table{schema: "main", name: "orders", kind: "table", columns: []string{"id", "N", "_Version"}, primary: []string{"id"}, rowid: true}
	require.Equal(t, "_version2", dialect.FreeName("_version", p.columns))
	want := []string{
		`BEGIN IMMEDIATE;`,
		`ALTER TABLE "main"."orders" ADD COLUMN "_version" INTEGER NOT NULL DEFAULT 0;`,
		`UPDATE "main"."orders" SET "_version" = "o"."n2" FROM (SELECT row_number() OVER (ORDER BY "id") AS "n2", "id" FROM "main"."orders") AS "o" WHERE "orders"."_version" = 0 AND ("o"."id") = ("orders"."id");`,
		`CREATE UNIQUE INDEX IF NOT EXISTS "main"."devotion_orders_version_index" ON "orders" ("_version");`,
		`CREATE TABLE IF NOT EXISTS "main"."devotion_orders_version_counter" (last INTEGER NOT NULL);`,
		`INSERT INTO "main"."devotion_orders_version_counter" SELECT coalesce(max("_version"), 0) FROM "main"."orders" WHERE NOT EXISTS (SELECT 1 FROM "main"."devotion_orders_version_counter");`,
		`CREATE TRIGGER IF NOT EXISTS "main"."devotion_orders_version_inserted" AFTER INSERT ON "orders" BEGIN UPDATE "devotion_orders_version_counter" SET last = last + 1; UPDATE "orders" SET "_version" = (SELECT last FROM "devotion_orders_version_counter") WHERE ("id") = (NEW."id"); END;`,
		`CREATE TRIGGER IF NOT EXISTS "main"."devotion_orders_version_updated" AFTER UPDATE ON "orders" WHEN NEW."_version" = OLD."_version" BEGIN UPDATE "devotion_orders_version_counter" SET last = last + 1; UPDATE "orders" SET "_version" = (SELECT last FROM "devotion_orders_version_counter") WHERE ("id") = (NEW."id"); END;`,
		`COMMIT;`,
	}
	require.Equal(t, want, p.statements("_version"))
	// DESIGN-ceilings.md has the recipe for a table with the columns id and v.
	p.columns = []string{"id", "v"}
	design, err := os.ReadFile("../DESIGN-ceilings.md")
	require.NoError(t, err)
	text := strings.NewReplacer("\n   ", "", `"`, "").Replace(string(design))
	for _, s := range p.statements("_version") {
		require.Contains(t, text, "\n"+strings.ReplaceAll(s, `"`, "")+"\n")
	}
}
