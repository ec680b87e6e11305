"""Django: its migrations (sessions, auth, content types), its ORM, server-side cursors, advisory work in transactions."""

import sys
import threading

import django
from django.conf import settings

from checks import check, main

DSN = sys.argv[1]


def database():
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(DSN)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts["dbname"],
        "USER": parts["user"],
        "PASSWORD": parts.get("password", ""),
        "HOST": parts["host"],
        "PORT": parts["port"],
        "OPTIONS": {"options": "-c search_path=django_checks"},
        "TIME_ZONE": "Europe/Lisbon",
    }


settings.configure(
    DATABASES={"default": database()},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"],
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
)
django.setup()

from django.contrib.auth.models import Group, User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import IntegrityError, connection, transaction  # noqa: E402

MIGRATED = threading.Lock()
DONE = []


def migrated():
    """Migrates once, whichever client comes first."""
    import psycopg

    with MIGRATED:
        if not DONE:
            with psycopg.connect(DSN, autocommit=True) as plain:
                plain.execute("drop schema if exists django_checks cascade; create schema django_checks")
            call_command("migrate", verbosity=0)
            DONE.append(True)


def closing(function):
    """A check whose thread's connection is closed behind it."""

    def wrapped(dsn, marker):
        try:
            migrated()
            function(marker)
        finally:
            connection.close()

    wrapped.__name__ = function.__name__
    return check(wrapped)


@closing
def the_time_zone_and_search_path_are_the_connections_own(marker):
    for _ in range(10):
        with connection.cursor() as cursor:
            cursor.execute("select current_setting('search_path'), current_setting('timezone')")
            row = cursor.fetchone()
            assert row == ("django_checks", "Europe/Lisbon"), row


@closing
def users_are_made_found_and_counted(marker):
    User.objects.filter(username__startswith=f"{marker}-").delete()
    group, _ = Group.objects.get_or_create(name=marker)
    for n in range(20):
        user = User.objects.create_user(f"{marker}-{n}", password="p")
        user.groups.add(group)
    assert User.objects.filter(groups__name=marker).count() == 20
    assert {user.username for user in User.objects.filter(username__startswith=f"{marker}-").iterator(chunk_size=7)} == {
        f"{marker}-{n}" for n in range(20)
    }


@closing
def atomic_blocks_roll_back(marker):
    Group.objects.filter(name__startswith=f"atomic-{marker}").delete()
    try:
        with transaction.atomic():
            Group.objects.create(name=f"atomic-{marker}")
            try:
                with transaction.atomic():
                    Group.objects.create(name=f"atomic-{marker}")
            except IntegrityError:
                pass
            assert Group.objects.filter(name=f"atomic-{marker}").count() == 1
            raise KeyError
    except KeyError:
        pass
    assert not Group.objects.filter(name=f"atomic-{marker}").exists()


@closing
def rows_are_locked_for_update(marker):
    group, _ = Group.objects.get_or_create(name=f"locked-{marker}")
    with transaction.atomic():
        assert Group.objects.select_for_update(skip_locked=True).filter(pk=group.pk).count() == 1


if __name__ == "__main__":
    main()
