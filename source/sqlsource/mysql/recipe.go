package mysql

import (
	"fmt"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// The recipe gives a table an AUTO_INCREMENT column to read it by. A table can have one such
// column only. It is INVISIBLE where the server knows that, so that statements which insert
// without a list of columns, and SELECT *, work as before. IF NOT EXISTS lets it run twice on
// MariaDB; on MySQL the second run fails and changes nothing.
const (
	mariaTemplate = "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column} bigint NOT NULL AUTO_INCREMENT UNIQUE INVISIBLE;"
	mysqlTemplate = "ALTER TABLE {table} ADD COLUMN {column} bigint NOT NULL AUTO_INCREMENT UNIQUE /*!80023 INVISIBLE */;"
)

// remedies returns how the table can be read by a key that AUTO_INCREMENT draws.
func (p *table) remedies(t ceiling.Table) []ceiling.Remedy {
	if p.drawn != "" && !strings.EqualFold(p.drawn, t.Key[0].Name) {
		return ceiling.Advice("set Key to " + p.drawn + ", which AUTO_INCREMENT draws")
	}
	if p.drawn != "" {
		return ceiling.Advice("drop the trigger, or make sure that it leaves the key alone")
	}
	column := p.free("_id")
	template := mysqlTemplate
	if p.maria {
		template = mariaTemplate
	}
	return ceiling.Advice("add a column that AUTO_INCREMENT draws, which rebuilds the table and blocks writers until that is done; then set Key to "+column,
		strings.NewReplacer("{table}", t.Name, "{column}", quote(column)).Replace(template))
}

// free returns a name that no column of the table has.
func (p *table) free(name string) string {
	for i := 1; ; i++ {
		candidate := name
		if i > 1 {
			candidate = fmt.Sprint(name, i)
		}
		if !slices.ContainsFunc(p.columns, func(c string) bool { return strings.EqualFold(c, candidate) }) {
			return candidate
		}
	}
}

func quote(name string) string { return Dialect{}.Quote(name) }
