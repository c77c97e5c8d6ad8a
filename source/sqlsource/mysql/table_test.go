package mysql

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

func TestRemedies(t *testing.T) {
	t.Parallel()
	target := ceiling.Table{Name: "`o``d`", Key: []ceiling.Column{{Name: "id"}}}
	p := &table{maria: true, columns: []string{"id", "_ID"}}
	require.Equal(t, []string{"ALTER TABLE `o``d` ADD COLUMN IF NOT EXISTS `_id2` bigint NOT NULL AUTO_INCREMENT UNIQUE INVISIBLE;"}, p.remedies(target)[0].Statements)
	p.maria = false
	require.Equal(t, []string{"ALTER TABLE `o``d` ADD COLUMN `_id2` bigint NOT NULL AUTO_INCREMENT UNIQUE /*!80023 INVISIBLE */;"}, p.remedies(target)[0].Statements)
	require.Contains(t, p.remedies(target)[0].Words, "The column is invisible: SELECT * of the application leaves it out")
	p.drawn = "nr"
	require.Equal(t, ceiling.Advice("set Key to nr, which AUTO_INCREMENT draws"), p.remedies(target), "a table has one such column only")
}

func TestLiteral(t *testing.T) {
	t.Parallel()
	require.Equal(t, "'orders'", literal("orders"))
	require.Equal(t, `_utf8mb4 x'6f5c6427'`, literal(`o\d'`))
}

func TestAccount(t *testing.T) {
	t.Parallel()
	require.Equal(t, "`app`@`%`", account("app@%"))
	require.Equal(t, "`a@b`@`10.0.0.%`", account("a@b@10.0.0.%"))
	require.Equal(t, "`it's \\ a``b`@`localhost`", account(`it's \ a`+"`b@localhost"))
	require.Equal(t, "``@`%`", account("@%"))
}
