package postgres

import (
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// A recipe gives a table a column to read it by: the transaction that wrote a row, or the moment
// when it was written. DESIGN-ceilings.md ("Advice") says what makes its statements harmless.
type recipe struct {
	column string
	typ    string
	value  string // what the column is set to, as pg_get_expr shows it
	add    string // the default for existing rows
	holds  string // what the column holds
	set    string // what to set beyond the key
}

var (
	txRecipe = recipe{"_tx", "xid8", "pg_current_xact_id()", "pg_current_xact_id()",
		"the transaction which wrote the row", ""}
	stampRecipe = recipe{"_at", "timestamp with time zone", "clock_timestamp()", "now()",
		"the moment when the row was written", " and Ceiling to stamp"}
)

const noHOT = ". Each UPDATE then changes an indexed column, so it cannot be a HOT update"

// body is the text of a recipe's function. A trigger whose function has exactly this text is
// known to set the column.
func (c recipe) body(column string) string {
	return fmt.Sprintf(" BEGIN NEW.%s := pg_catalog.%s; RETURN NEW; END ", quote(column), c.value)
}

// statements returns those that add the column with its index, and those that add the trigger. In
// the templates {table} is each table in turn whose rows are read, {root} the one that the others
// inherit from.
func (c recipe) statements(p *table, t ceiling.Table, column string, add, trigger bool) (list []string) {
	root := p.root()
	name, body := quote(objectName(root, column)), c.body(column)
	write := func(m member, templates ...string) {
		r := strings.NewReplacer(
			"{root}", root.name, "{table}", m.name, "{column}", quote(column), "{type}", c.typ, "{add}", c.add, "{value}", c.value,
			"{function}", quote(root.schema)+"."+name, "{trigger}", name, "{body}", "'"+strings.ReplaceAll(body, "'", "''")+"'")
		for _, s := range templates {
			list = append(list, r.Replace(s))
		}
	}
	// Children that are not partitions inherit neither triggers nor indexes.
	tables := slices.DeleteFunc(slices.Clone(p.tree), func(m member) bool {
		return m.oid != root.oid && (m.partition || m.ancestor || m.kind != "r" || root.kind == "p")
	})
	write(root, `BEGIN;`, `SET LOCAL lock_timeout = '2s';`)
	if add {
		write(root, `ALTER TABLE {root} ADD COLUMN IF NOT EXISTS {column} {type} NOT NULL DEFAULT {add};`)
		if c.add != c.value {
			write(root, `ALTER TABLE {root} ALTER COLUMN {column} SET DEFAULT {value};`)
		}
	}
	if trigger {
		write(root, `CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS {body};`)
		for _, m := range tables {
			write(m, `DROP TRIGGER IF EXISTS {trigger} ON {table};`,
				`CREATE TRIGGER {trigger} BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {function}();`)
			if p.published {
				write(m, `ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger};`)
			}
		}
	}
	write(root, `COMMIT;`)
	if add {
		for _, m := range tables {
			list = append(list, p.createIndex(m, append([]ceiling.Column{{Name: column, Quoted: quote(column)}}, t.Key...)))
		}
	}
	return list
}

const reindex = "REINDEX INDEX CONCURRENTLY %s;"

// createIndex returns the statement for an index of a table. IF NOT EXISTS would keep an invalid
// one, which CREATE INDEX CONCURRENTLY leaves when it fails.
func (p *table) createIndex(m member, key []ceiling.Column) string {
	k := ceiling.Table{Key: key}
	sum := crc32.ChecksumIEEE([]byte(m.relation + "\x00" + strings.Join(k.Names(), "\x00"))) // a_b of c is not b_c of a
	name, concurrently := objectName(m, fmt.Sprintf("%s_%08x", strings.Join(k.Names(), "_"), sum)), "CONCURRENTLY "
	if m.kind == "p" {
		concurrently = ""
	} else if i := slices.IndexFunc(p.indexes, func(i index) bool { return !i.valid && i.table == m.oid && i.relation == name }); i >= 0 {
		return fmt.Sprintf(reindex, p.indexes[i].name)
	}
	return fmt.Sprintf("CREATE INDEX %sIF NOT EXISTS %s ON %s (%s);", concurrently, quote(name), m.name, k.Columns())
}

// objectName names a function, trigger or index of a recipe by the table and by its purpose,
// so that no second recipe takes it over. Names that would be cut off have numbers instead.
func objectName(m member, purpose string) string {
	name := fmt.Sprintf("zz_devotion_%s_%s", m.relation, strings.TrimLeft(purpose, "_"))
	if len(name) > 63 {
		name = fmt.Sprintf("zz_devotion_%d_%08x", m.oid, crc32.ChecksumIEEE([]byte(purpose)))
	}
	return name
}

// free returns a name for a recipe's column that no other column has, and whether the table
// has the recipe's column already.
func (c recipe) free(p *table) (column string, exists bool) {
	var taken []string
	for _, other := range p.columns {
		if strings.TrimRight(other.name, "0123456789") == c.column && other.typ == c.typ && unqualified(other.expr) == c.value {
			return other.name, true
		}
		taken = append(taken, other.name)
	}
	return dialect.FreeName(c.column, taken), false
}

// remedy offers the recipe. Changes of rows are read only with a trigger.
func (c recipe) remedy(p *table, t ceiling.Table, trigger bool) ceiling.Remedy {
	column, exists := c.free(p)
	words := "add a column that holds " + c.holds
	if exists {
		words = "read by the column " + column + ", which the table already has"
	}
	words += "; then set Key to " + strings.Join(append([]string{column}, t.Names()...), ", ") + c.set
	if trigger {
		words += ". Each row is read, and its latest version again after each change" + noHOT
	} else {
		words += ". Each row is read as it was inserted; changes are not read"
	}
	if p.root().kind == "p" {
		words += ". Building the index blocks writers, because the table is partitioned"
	}
	words += ". Subscribers of a publication with the table stop until their tables have the column, too. SELECT * then returns it, and COPY without a list of columns expects it." +
		" A CREATE INDEX that fails leaves an invalid index: Check then says how to build it again"
	return ceiling.Remedy{Words: words, Statements: c.statements(p, t, column, true, trigger)}
}

// remedies returns the recipes that fit every table. updates says that changes must be read, too:
// then only those with triggers fit. The name of the key can say so, too.
func (p *table) remedies(t ceiling.Table, updates bool) []ceiling.Remedy {
	if p.version < 130000 {
		return ceiling.Advice("upgrade to Postgres 13 or later, and give the table a column of the type xid8")
	}
	with := txRecipe.remedy(p, t, true)
	if updates || t.UpdateColumn() != "" {
		return []ceiling.Remedy{with}
	}
	return []ceiling.Remedy{txRecipe.remedy(p, t, false), with}
}

// stampRemedies returns the ways out for a key that begins with a time.
func (p *table) stampRemedies(t ceiling.Table) []ceiling.Remedy {
	list := p.remedies(t, true)
	if p.version >= 130000 {
		list = append(list, stampRecipe.remedy(p, t, true))
	}
	if p.tree[0].keyType == stampRecipe.typ {
		list = append(list, ceiling.Remedy{Words: fmt.Sprintf("if a trigger sets %q to clock_timestamp() at each INSERT and UPDATE, set Ceiling to stamp, which takes your word for that", t.Key[0].Name)})
	}
	return list
}

// resetRemedies returns what to do about a column that is not known to be set at each change: a
// trigger for it, if it is the recipe's own by its name and default, or else another column. A
// trigger on a user's column would rewrite it, such as created_at, at each UPDATE.
func (p *table) resetRemedies(t ceiling.Table, c recipe) []ceiling.Remedy {
	column, exists := c.free(p)
	if !exists || column != t.Key[0].Name {
		t.Key = t.Key[min(1, len(t.Key)-1):]
		return []ceiling.Remedy{c.remedy(p, t, true)}
	}
	words := fmt.Sprintf("let a trigger set %q at each change; it runs after the other triggers of the table"+noHOT, column)
	return ceiling.Advice(words, c.statements(p, t, column, false, true)...)
}

// unqualified is an expression without the schema that pg_get_expr may show.
func unqualified(expr string) string { return strings.TrimPrefix(expr, "pg_catalog.") }

func quote(name string) string { return Dialect{}.Quote(name) }
