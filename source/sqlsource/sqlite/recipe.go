package sqlite

import (
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// The recipe gives a table a version to read it by, which triggers draw from a counter at each
// INSERT and UPDATE. A second run fails at ADD COLUMN. A shell that continues after the error
// changes nothing by the others: rows that have a version keep it, and existing objects are not
// created again.
var recipe = []string{
	`BEGIN IMMEDIATE;`,
	`ALTER TABLE {table} ADD COLUMN {version} INTEGER NOT NULL DEFAULT 0;`,
	`UPDATE {table} SET {version} = {number} WHERE {version} = 0{same};`,
	`CREATE UNIQUE INDEX IF NOT EXISTS {index} ON {name} ({version});`,
	`CREATE TABLE IF NOT EXISTS {schema}.{counter} (last INTEGER NOT NULL);`,
	`INSERT INTO {schema}.{counter} SELECT coalesce(max({version}), 0) FROM {table} WHERE NOT EXISTS (SELECT 1 FROM {schema}.{counter});`,
	`CREATE TRIGGER IF NOT EXISTS {inserted} AFTER INSERT ON {name} BEGIN {draw} END;`,
	`CREATE TRIGGER IF NOT EXISTS {updated} AFTER UPDATE ON {name} WHEN NEW.{version} = OLD.{version} BEGIN {draw} END;`,
	`COMMIT;`,
}

const draw = `UPDATE {counter} SET last = last + 1; UPDATE {name} SET {version} = (SELECT last FROM {counter}) WHERE {row} = {changed};`

// statements fills in the recipe for a column's name.
func (p *table) statements(version string) []string {
	object := func(suffix string) string { return quote("devotion_" + p.name + version + suffix) }
	schema := quote(p.schema)
	pairs := []string{
		"{table}", schema + "." + quote(p.name), "{name}", quote(p.name), "{schema}", schema, "{version}", quote(version),
		"{index}", schema + "." + object("_index"), "{counter}", object("_counter"),
		"{inserted}", schema + "." + object("_inserted"), "{updated}", schema + "." + object("_updated"),
	}
	if p.withoutRowid {
		id := names("", p.primary)
		pairs = append(pairs, "{row}", "("+id+")", "{changed}", "("+names("NEW.", p.primary)+")",
			"{number}", "n FROM (SELECT row_number() OVER (ORDER BY "+id+") AS n, "+id+" FROM "+schema+"."+quote(p.name)+") AS o",
			"{same}", " AND ("+names("o.", p.primary)+") = ("+names(quote(p.name)+".", p.primary)+")")
	} else {
		pairs = append(pairs, "{row}", "rowid", "{changed}", "NEW.rowid", "{number}", "rowid", "{same}", "")
	}
	replacer := strings.NewReplacer(append(pairs, "{draw}", strings.NewReplacer(pairs...).Replace(draw))...)
	all := make([]string, len(recipe))
	for i, s := range recipe {
		all[i] = replacer.Replace(s)
	}
	return all
}

// remedies returns how the table can be read by another key.
func (p *table) remedies() []ceiling.Remedy {
	version := dialect.FreeName("_version", p.columns)
	return ceiling.Advice("add a version that triggers draw from a counter; then set Key to "+version+" and Ceiling to single-writer. "+
		"Each row is read, and its latest version again after each change. (INSERT without a list of columns then fails, and SELECT * "+
		"returns the column, too. Run the statements with sqlite3 -bail, which stops at the first error.)", p.statements(version)...)
}

// names lists columns for SQL, each after a prefix.
func names(prefix string, columns []string) string {
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = prefix + quote(c)
	}
	return strings.Join(quoted, ", ")
}

func quote(name string) string { return Dialect{}.Quote(name) }
