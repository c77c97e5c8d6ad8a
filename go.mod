module github.com/artifactofdevotion/devotion

go 1.25

require (
	github.com/jmoiron/sqlx v1.4.0
	github.com/sethvargo/go-retry v0.5.0
	github.com/stretchr/testify v1.9.0
)

require (
	github.com/davecgh/go-spew v1.1.1 // indirect
	github.com/pmezard/go-difflib v1.0.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)
