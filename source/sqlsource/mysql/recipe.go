package mysql

import (
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// remedies returns how the table can be read by a key that AUTO_INCREMENT draws. A table can have
// one such column only. A new one is INVISIBLE where the server knows that, so that statements which
// insert without a list of columns, and SELECT *, work as before. IF NOT EXISTS lets the statement
// run twice on MariaDB; on MySQL the second run fails and changes nothing.
func (p *table) remedies(t ceiling.Table) []ceiling.Remedy {
	switch {
	case strings.EqualFold(p.drawn, t.Key[0].Name):
		return ceiling.Advice("drop the trigger, or make sure that it leaves the key alone")
	case p.drawn != "":
		return ceiling.Advice("set Key to " + p.drawn + ", which AUTO_INCREMENT draws")
	}
	unless, invisible := "", "/*!80023 INVISIBLE */"
	if p.maria {
		unless, invisible = "IF NOT EXISTS ", "INVISIBLE"
	}
	column := dialect.FreeName("_id", p.columns)
	return ceiling.Advice("add a column that AUTO_INCREMENT draws, which rebuilds the table and blocks writers until that is done; then set Key to "+column,
		"ALTER TABLE "+t.Name+" ADD COLUMN "+unless+quote(column)+" bigint NOT NULL AUTO_INCREMENT UNIQUE "+invisible+";")
}

func quote(name string) string { return Dialect{}.Quote(name) }
