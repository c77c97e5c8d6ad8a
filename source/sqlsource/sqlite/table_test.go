package sqlite

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

func TestRecipe(t *testing.T) {
	t.Parallel()
	p := &table{schema: "main", name: "orders", kind: "table", columns: []string{"id", "_Version"}}
	require.Equal(t, "_version2", dialect.FreeName("_version", p.columns))
	require.Equal(t, []string{
		`BEGIN IMMEDIATE;`,
		`ALTER TABLE "main"."orders" ADD COLUMN "_version" INTEGER NOT NULL DEFAULT 0;`,
		`UPDATE "main"."orders" SET "_version" = rowid WHERE "_version" = 0;`,
		`CREATE UNIQUE INDEX IF NOT EXISTS "main"."devotion_orders_version_index" ON "orders" ("_version");`,
		`CREATE TABLE IF NOT EXISTS "main"."devotion_orders_version_counter" (last INTEGER NOT NULL);`,
		`INSERT INTO "main"."devotion_orders_version_counter" SELECT coalesce(max("_version"), 0) FROM "main"."orders" WHERE NOT EXISTS (SELECT 1 FROM "main"."devotion_orders_version_counter");`,
		`CREATE TRIGGER IF NOT EXISTS "main"."devotion_orders_version_inserted" AFTER INSERT ON "orders" BEGIN UPDATE "devotion_orders_version_counter" SET last = last + 1; UPDATE "orders" SET "_version" = (SELECT last FROM "devotion_orders_version_counter") WHERE rowid = NEW.rowid; END;`,
		`CREATE TRIGGER IF NOT EXISTS "main"."devotion_orders_version_updated" AFTER UPDATE ON "orders" WHEN NEW."_version" = OLD."_version" BEGIN UPDATE "devotion_orders_version_counter" SET last = last + 1; UPDATE "orders" SET "_version" = (SELECT last FROM "devotion_orders_version_counter") WHERE rowid = NEW.rowid; END;`,
		`COMMIT;`,
	}, p.statements("_version"))
}
