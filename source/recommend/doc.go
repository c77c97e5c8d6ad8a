// Package recommend lists the means by which the rows and changes of tables can be read:
// what each one delivers, its guarantee, the rights it needs, and its price.
//
//	tables, err := recommend.Tables(ctx, db, "public.*")
//	fmt.Print(recommend.Text(tables))
//
// The first means of a table is the recommended one. Means that need SELECT alone come first,
// if they deliver inserts, updates and deletes. DESIGN.md has the rules.
package recommend
