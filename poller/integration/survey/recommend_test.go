package survey

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/recommend"
)

// Each table with a key has a means that needs SELECT alone and delivers everything, and it is the
// first one. No statement that is printed touches the columns of a table.
func TestRecommendations(t *testing.T) {
	for _, engine := range []string{"postgres", "mariadb", "sqlite"} {
		t.Run(engine, func(t *testing.T) {
			script, err := os.ReadFile("testdata/" + engine + "/shop.sql")
			require.NoError(t, err)
			d := open(t, engine)
			require.Empty(t, d.run(t, string(script), true))
			tables, err := recommend.Tables(context(), d.DB, "")
			require.NoError(t, err)
			names := map[string]recommend.Table{}
			for _, table := range tables {
				names[table.Name] = table
				first := table.Means[0]
				if table.Kind == "table" && (table.Key != nil || table.Place != "") {
					assert.True(t, first.Complete() && first.Plain(), "%s: %s: %s", table.Label(), first.Name, first.Refused)
				}
				assert.Empty(t, first.Refused, table.Label())
				for _, m := range table.Means {
					assert.NotEqual(t, m.Refused == "", m.Delivers == 0, "%s: %s", table.Label(), m.Name)
					assert.Equal(t, m.Refused == "", m.Guarantee != "" && m.Price != "" && m.Rights != "", "%s: %s", table.Label(), m.Name)
					for _, s := range m.Script {
						assert.NotRegexp(t, `(?i)ALTER TABLE \S+ (ADD|ALTER|DROP) `, s)
						assert.False(t, strings.HasPrefix(s, "UPDATE"), s)
					}
				}
			}
			orders := names["orders"].String()
			best := "1 diff (package diffsource): recommended"
			if engine == "postgres" {
				best = "1 xmin scan (package xminsource): recommended"
				assert.Contains(t, orders, "a key pass, which finds the deletes")
			}
			assert.Contains(t, orders, best)
			assert.Contains(t, orders, "change table")
			assert.Contains(t, names["open_orders"].String(), "name the columns that tell its rows apart")
			assert.Greater(t, len(recommend.Text(tables)), 1000)
			t.Log("\n" + recommend.Text(tables) + orders)
		})
	}
}
