package mysql

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

func TestRemedies(t *testing.T) {
	t.Parallel()
	target := ceiling.Table{Label: "orders", Key: []ceiling.Column{{Name: "id"}}}
	p := &table{}
	require.Equal(t, ceiling.OtherMeans(target), p.remedies(target))
	p.drawn = "nr"
	require.Equal(t, "for inserted rows, set Key to nr, which AUTO_INCREMENT draws", p.remedies(target)[0].Words)
	p.drawn = "ID"
	require.Contains(t, p.remedies(target)[0].Words, "drop the trigger")
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
